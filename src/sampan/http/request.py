"""One HTTP request: path, query, headers, and the body as it arrives."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from sampan.errors import InvalidArgument

if TYPE_CHECKING:
    from sampan.http.stream import Stream

FALSE = frozenset({"", "0", "no", "false", "none"})  # moby: httputils/form.go, BoolValue
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
UINT32_LIMIT = 1 << 32
INT64_LIMIT = 1 << 63


def unescape(text: str) -> str:
    """Decode percent escapes; raise InvalidArgument, in Go's words, for a broken one."""
    if "%" not in text:
        return text
    if broken := _BAD_ESCAPE.search(text):
        raise InvalidArgument(f'invalid URL escape "{broken[0]}"')
    return unquote_to_bytes(text.encode("latin-1", "replace")).decode("utf-8", "replace")


class Query:
    """The query of a URL: every value of every name, in order."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for pair in text.split("&") if text else ():
            if ";" in pair:
                raise InvalidArgument("invalid semicolon separator in query")
            if pair:
                name, _, value = pair.partition("=")
                self._values.setdefault(_form(name), []).append(_form(value))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of `name`."""
        values = self._values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        """Return every value of `name`."""
        return list(self._values.get(name, ()))

    def boolean(self, name: str, default: bool = False) -> bool:
        """Return a truth value as Docker reads it: "", 0, no, false and none are false."""
        if name not in self._values:
            return default
        return self._values[name][0].strip().lower() not in FALSE

    def integer(self, name: str) -> int | None:
        """Return a whole number, None if it is not given; raises InvalidArgument."""
        text = self.get(name)
        if not text:
            return None
        if len(text) > 24 or not _INTEGER.match(text):
            raise InvalidArgument(f'strconv.Atoi: parsing "{text}": invalid syntax')
        if not -INT64_LIMIT <= (number := int(text)) < INT64_LIMIT:
            raise InvalidArgument(f'strconv.Atoi: parsing "{text}": value out of range')
        return number


def _form(text: str) -> str:
    return unescape(text.replace("+", " ") if "+" in text else text)


class Headers:
    """The header fields of a request; names are compared without case."""

    def __init__(self, items: list[tuple[bytes, bytes]]) -> None:
        self._items = items

    def get(self, name: str, default: str = "") -> str:
        """Return the first field of that name."""
        wanted = name.lower().encode()
        for key, value in self._items:
            if key == wanted:
                return value.decode("latin-1")
        return default

    def all(self, name: str) -> list[str]:
        """Return every field of that name."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self._items if key == wanted]

    def __contains__(self, name: str) -> bool:
        wanted = name.lower().encode()
        return any(key == wanted for key, _ in self._items)


class Exchange:
    """What a request may ask of the connection that it came on."""

    def __init__(
        self,
        chunks: Callable[[], AsyncIterator[bytes]],
        take_over: Callable[[bytes], Awaitable[Stream]],
        watch: Callable[[], None],
    ) -> None:
        self.chunks, self.take_over, self.watch = chunks, take_over, watch


class Request:
    """One request. The body is read by whoever wants it: `read` whole, or `chunks` by chunks."""

    def __init__(self, method: str, target: str, headers: Headers, exchange: Exchange) -> None:
        raw_path, _, raw_query = target.partition("?")
        self.method = method
        self.target = target
        self.raw_path = raw_path
        self.raw_query = raw_query
        self.headers = headers
        self.version: tuple[int, ...] = ()  # of the API, set by the face
        self._exchange = exchange
        self._query: Query | None = None

    @property
    def path(self) -> str:
        """The path with its escapes decoded; raises InvalidArgument for a broken escape."""
        return unescape(self.raw_path)

    @property
    def query(self) -> Query:
        """The parsed query; raises InvalidArgument for a broken escape."""
        if self._query is None:
            self._query = Query(self.raw_query)
        return self._query

    @property
    def content_length(self) -> int | None:
        """The length of the body; None if it is sent in chunks."""
        if "transfer-encoding" in self.headers:
            return None
        return int(self.headers.get("content-length", "0"))

    @property
    def wants_upgrade(self) -> bool:
        """Whether the client asks to speak something else on this connection."""
        return "upgrade" in self.headers

    @property
    def is_http2(self) -> bool:
        """Whether this is not a request but the first line of HTTP/2."""
        return self.method == "PRI"

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the pieces of the body as they arrive; sends `100 Continue` if it is awaited."""
        return self._exchange.chunks()

    async def read(self, limit: int) -> bytes:
        """Return the whole body; raises InvalidArgument if it is longer than `limit` bytes."""
        pieces, size = [], 0
        async for piece in self.chunks():
            size += len(piece)
            if size > limit:
                raise InvalidArgument(f"the request body is larger than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def take_over(self, head: bytes) -> Stream:
        """Send `head` as it is and return the connection: from now on it is no longer HTTP.

        A body that belongs to the request is read and dropped before; bytes that came behind
        it are the first that the stream returns. The connection is closed when the handler ends.
        """
        return await self._exchange.take_over(head)

    def cancel_when_client_leaves(self) -> None:
        """From now on, cancel the handler (and the stream it returned) when the client is gone."""
        self._exchange.watch()
