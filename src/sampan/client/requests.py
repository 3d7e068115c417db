"""Requests of the Docker API over one connection: what `Client` and its nouns are made of.

Synchronous; answers are the JSON documents of the API as Python values. Errors are those of
`sampan.errors`, with the daemon's sentence behind "Error response from daemon: ".
"""

from __future__ import annotations

from sampan.client import documents
from sampan.client.connection import BODY_BYTES, Connection, Response
from sampan.client.errors import error_of, unreachable
from sampan.errors import Internal, SampanError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Self

    from sampan.client.endpoint import Endpoint

    Headers = Mapping[str, str | list[str]]

# Everything else is percent-encoded; a space too, since Go's servers read + as one only in queries.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:@")


def quoted(text: str) -> str:
    """Percent-encode what may not stand in a path or in a query value."""
    return "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def query_of(parameters: Mapping[str, object]) -> str:
    """Format a query; None and False are left out, True is 1, a list is repeated."""
    pairs: list[str] = []
    for name, value in parameters.items():
        if value is None or value is False:
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [f"{name}={quoted('1' if item is True else str(item))}" for item in values]
    return "?" + "&".join(pairs) if pairs else ""


def filters_of(filters: Mapping[str, Iterable[str]] | None) -> str | None:
    """Format filters as the API's JSON map of sets; None if there are none."""
    if not filters:
        return None
    document = {name: dict.fromkeys(values, True) for name, values in filters.items()}
    return documents.encode(document).decode("utf-8", "surrogateescape")


class Requests:
    """Sends requests to one daemon, and keeps the connection between them."""

    def __init__(self, endpoint: Endpoint, version: str = "", headers: str = "") -> None:
        """`version` pins the API version; else the daemon answers in its newest."""
        self.endpoint = endpoint
        self.version = version
        self._prefix = f"/v{version}" if version else ""
        name = endpoint.name if not endpoint.path else "localhost"
        self._common = f"Host: {name}\r\nUser-Agent: sampan-client\r\n{headers}"
        self._idle: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connection; open streams close on their own."""
        if self._idle:
            self._idle.close()
            self._idle = None

    def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Headers | None = None,
    ) -> Response:
        """Send a request and return the answer with its body unread.

        The caller closes it, or reads it to the end. Raises the error that a status of 300 or more
        stands for, and Unavailable if the daemon cannot be reached.
        """
        head = self._head(method, path, query, body, headers)
        response = self._exchange(method, head, body)
        if response.status >= 300:
            try:
                error = error_of(response.status, b"" if method == "HEAD" else response.read())
            finally:
                response.close()
            raise error
        return response

    def _head(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: bytes | Iterable[bytes] | None,
        headers: Headers | None,
    ) -> bytes:
        lines = f"{method} {self._prefix}{path}{query_of(query or {})} HTTP/1.1\r\n{self._common}"
        for name, value in (headers or {}).items():
            for one in [value] if isinstance(value, str) else value:
                lines += f"{name}: {one}\r\n"
        if isinstance(body, (bytes, bytearray)):
            lines += f"Content-Length: {len(body)}\r\n"
        elif body is not None:
            lines += "Transfer-Encoding: chunked\r\n"
        elif method in ("POST", "PUT"):
            lines += "Content-Length: 0\r\n"
        return (lines + "\r\n").encode("latin-1", "replace")

    def _exchange(self, method: str, head: bytes, body: bytes | Iterable[bytes] | None) -> Response:
        kept = self._kept()
        if kept and method in ("GET", "HEAD"):
            try:
                return self._try(kept, method, head, body)
            except (ConnectionError, Unavailable):
                kept.close()  # the daemon closed it just now; to ask again does no harm
                kept = None
        connection = kept or self._connect()
        try:
            return self._try(connection, method, head, body)
        except OSError as error:
            connection.close()
            raise unreachable(self.endpoint.host, error) from error
        except SampanError:
            connection.close()
            raise

    def _kept(self) -> Connection | None:
        """Return the idle connection, unless the daemon has closed it meanwhile."""
        kept, self._idle = self._idle, None
        if kept and kept.is_closed():
            kept.close()
            return None
        return kept

    def _try(
        self, connection: Connection, method: str, head: bytes, body: bytes | Iterable[bytes] | None
    ) -> Response:
        try:
            connection.send(head, body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon may have refused the body: its answer says why, else reading fails
        return Response(connection, *connection.receive_head(), bodyless=method == "HEAD")

    def _connect(self) -> Connection:
        try:
            return Connection(self.endpoint.connect())
        except OSError as error:
            raise unreachable(self.endpoint.host, error) from error

    def finish(self, response: Response, limit: int = BODY_BYTES) -> bytes:
        """Read a body to its end and keep the connection for the next request.

        Raises Internal if it is longer than `limit` bytes.
        """
        try:
            data = response.read(limit)
        except BaseException:
            response.close()
            raise
        if response.reusable and self._idle is None:
            self._idle = response.connection
        else:
            response.close()
        return data

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a JSON document, or nothing, and return the JSON answer; None if it is empty."""
        body, lines = json_body(document)
        data = self.finish(self.open(method, path, query, body, {**lines, **(headers or {})}))
        if not data.strip():
            return None
        try:
            return documents.decode(data)
        except ValueError as error:
            raise Internal(f"the daemon sent what is no JSON: {error}") from None

    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Any]:
        """Send a request and return the JSON documents of the answer, as they come.

        The request is answered when this returns; the answer is closed with the iterator.
        """
        return _documents(self.open(method, path, query, body, headers))

    def hijack(
        self, path: str, query: Mapping[str, object] | None = None, document: object = None
    ) -> Connection:
        """Turn a request into a two-way byte stream and return it; the caller closes it."""
        body, headers = json_body(document)
        headers |= {"Connection": "Upgrade", "Upgrade": "tcp"}
        return self.open("POST", path, query, body, headers).connection


def _documents(response: Response) -> Iterator[Any]:
    try:
        for line in response.lines():
            yield from documents.decode_all(line)
    except ValueError as error:
        raise Internal(f"the daemon sent what is no JSON: {error}") from None
    except OSError as error:
        raise Unavailable(f"error during connect: {error.strerror or error}") from None
    finally:
        response.close()


def json_body(document: object) -> tuple[bytes | None, dict[str, str]]:
    """Return a body and its headers; no document, no body."""
    if document is None:
        return None, {}
    return documents.encode(document), {"Content-Type": "application/json"}
