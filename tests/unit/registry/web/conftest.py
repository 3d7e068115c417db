"""Pages for browsers, asked inside of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sampan.registry.auth.access import Access
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from sampan.registry.web.pages import Pages
from sampan.registry.web.sign_in import SignIn
from tests.own_registry import Answer, Shop, serving

DELETES = Service(deletes=True)


class Browser:
    """Asks for pages, and follows what it is told to follow."""

    def __init__(self, pages: Pages, shop: Shop) -> None:
        self.shop = shop
        self._shop = Shop(pages)  # type: ignore[arg-type]
        self.ask = self._shop.ask

    def get(self, url: str, **headers: str) -> Answer:
        return self._shop.get(url, **headers)

    def text(self, url: str, **headers: str) -> str:
        answer = self.get(url, **headers)
        assert answer.status == 200, answer
        return answer.body.decode()

    def post(self, fields: str, **headers: str) -> Answer:
        given = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        given = {name.replace("_", "-"): value for name, value in given.items()}
        return self.ask("POST", "/ui/delete", fields.encode(), given)


@contextmanager
def browsing(
    service: Service = DELETES, access: Access | None = None, sign_in: SignIn | None = None
) -> Iterator[Browser]:
    with Registry.in_memory() as registry, serving(registry, service, access) as shop:
        pages = Pages(shop.application, shop.application, sign_in)
        try:
            yield Browser(pages, shop)
        finally:
            pages.close()


@pytest.fixture
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found
