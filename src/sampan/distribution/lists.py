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
from sampan.spec.image import Descriptor

T = TypeVar("T")
Item = TypeVar("Item")
_PAGE_BYTES = 8 << 20
_BYTES = 64 << 20  # of all pages
_PAGES = 1000
_ITEMS = 200_000


class Tags(msgspec.Struct):
    """A page of tags."""

    tags: list[str] | None = None


class Catalog(msgspec.Struct):
    """A page of repositories."""

    repositories: list[str] | None = None


class Referrers(msgspec.Struct):
    """A page of what is attached to a manifest."""

    manifests: list[Descriptor] | None = None


async def all_pages(
    session: Session, path: str, page: type[T], items: Callable[[T], list[Item] | None], what: str
) -> list[Item]:
    """Return all items of a list. Raises Refusal, FailedRequest; Upstream if it does not end."""
    where: str | Url = path
    found: list[Item] = []
    size = 0
    for _ in range(_PAGES):
        async with await session.send(where, Call("GET")) as answer:
            await expect(answer, 200)
            content = await session.transport.read(answer, _PAGE_BYTES)
            following = next_page(answer.headers.all("link"))
        try:
            found += items(msgspec.json.decode(content, type=page)) or []
            where = answer.url.join(following) if following else ""
        except (ValueError, RecursionError, InvalidArgument) as error:
            raise Upstream(f"invalid list of {what}: {plain(str(error))}") from None
        size += len(content)
        if len(found) > _ITEMS or size > _BYTES:
            break
        if not where:
            return found
    raise Upstream(f"the registry lists more than {_ITEMS} {what}, or does not end")
