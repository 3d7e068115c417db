"""Lists that registries give in pages: tags and repositories."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from sampan.distribution.headers import next_page
from sampan.distribution.refusals import plain
from sampan.distribution.session import Session, expect
from sampan.distribution.transport import Call
from sampan.errors import InvalidArgument, Upstream
from sampan.http.urls import Url

T = TypeVar("T")
_PAGE_BYTES = 8 << 20
_PAGES = 1000
_ITEMS = 200_000


class Tags(msgspec.Struct):
    """A page of tags."""

    tags: list[str] | None = None


class Catalog(msgspec.Struct):
    """A page of repositories."""

    repositories: list[str] | None = None


async def all_pages(
    session: Session, path: str, page: type[T], items: Callable[[T], list[str] | None], what: str
) -> list[str]:
    """Return all items of a list. Raises Refusal, FailedRequest; Upstream if it does not end."""
    where: str | Url = path
    found: list[str] = []
    for _ in range(_PAGES):
        async with await session.send(where, Call("GET")) as answer:
            await expect(answer, 200)
            content = await session.transport.read(answer, _PAGE_BYTES)
            following = next_page(answer.headers.all("link"))
        try:
            found += items(msgspec.json.decode(content, type=page)) or []
            where = answer.url.join(following) if following else ""
        except (msgspec.DecodeError, RecursionError, InvalidArgument) as error:
            raise Upstream(f"invalid list of {what}: {plain(str(error))}") from None
        if len(found) > _ITEMS:
            break
        if not where:
            return found
    raise Upstream(f"the registry lists more than {_ITEMS} {what}, or does not end")
