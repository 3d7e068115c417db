"""One request on its way through an endpoint: what it is about, and what endpoints need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from sampan.registry import names
from sampan.registry.auth.access import Grant
from sampan.registry.conditions import Condition
from sampan.registry.errors import RegistryError
from sampan.registry.events import Event
from sampan.registry.forwarded import forwarded
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from sampan.spec.digest import Digest

if TYPE_CHECKING:  # only a cache needs it
    from sampan.registry.proxy.cached import CachedRepository

T = TypeVar("T")
_DIGITS = 9  # of a number in a query


class Emit(Protocol):
    """Takes events, at once or for good: it may block, and is called in a thread."""

    def __call__(self, call: Call, event: Event) -> None: ...


@dataclass
class Call:
    """One request."""

    request: Request
    registry: Registry
    service: Service
    threads: Executor
    grant: Grant
    groups: Mapping[str, str]
    emit: Emit | None
    repository: str = field(default="")
    cached: CachedRepository | None = None  # the repository is that of an upstream

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that blocks, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, function, *arguments)

    async def tell(self, event: Event) -> None:
        """Tell what happened."""
        if self.emit is not None:
            await self.run(self.emit, self, event)

    def query(self, name: str) -> str:
        """Return the first value of a query parameter; empty if it is not given."""
        return self.request.query_params.get(name, "")

    def count(self, most: int) -> int | None:
        """Return the query's `n`; None if there is none. Too large a number is `most` (0: any)."""
        text = self.query("n")
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise RegistryError("PAGINATION_NUMBER_INVALID", {"n": text[:64]})
        count = int(text[:_DIGITS] if len(text) <= _DIGITS else "9" * _DIGITS)
        return min(count, most) if most else count

    def url(self, path: str) -> str:
        """Return the address of something below the prefix, as the client can reach it."""
        if self.service.host:
            return f"{self.service.host}/{path}"
        path = self.service.prefix + path
        if self.service.relative_urls:
            return path
        scheme, host = forwarded(self.request.headers)
        host = host or self.request.headers.get("host") or "localhost"
        return f"{scheme or self.request.scope['scheme']}://{host}{path}"

    @property
    def condition(self) -> Condition:
        """What the client expects to be there."""
        return Condition.of(self.request.headers)

    def next_link(self, path: str, **query: str | int) -> dict[str, str]:
        """Return the header that leads to the next page."""
        address = f"{self.service.prefix}{path}?{urlencode(query)}"
        return {"Link": f'<{address}>; rel="next"'}

    def blob_path(self, digest: str) -> str:
        """Return where a blob of the repository is found."""
        return f"v2/{self.repository}/blobs/{digest}"

    def digest_group(self) -> Digest:
        """Return the digest in the path."""
        return names.digest(self.groups["digest"])


def empty(status: int, headers: Mapping[str, str]) -> Response:
    """Return an answer without a body."""
    given = {"Content-Length": "0"} if status != 204 else {}
    return Response(status_code=status, headers={**given, **headers})
