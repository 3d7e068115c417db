"""The server of the registry: which one serves what (docs/decisions/041).

    async with make_server(application, listener) as server:
        await server.ended()

Plain HTTP/1.1 is served by our own server, TLS and HTTP/2 by granian.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from starlette.types import ASGIApp

from sampan.errors import InvalidArgument
from sampan.http.asgi import AsgiServer
from sampan.http.limits import Limits

BACKLOG = 512
HEAD_BYTES = 64 << 10


@dataclass(frozen=True)
class TLS:
    """Files of the server's certificate and key (PKCS #8), and of what clients must have."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    minimum: str = "tls1.2"


class Server(Protocol):
    """Serves an application on one listening socket until it is stopped."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def ended(self) -> None:
        """Return when the server has stopped; raise what stopped it."""

    def renew(self, tls: TLS) -> None:
        """Read certificates anew; connections that are there keep what they have."""

    def move(self, listener: socket.socket) -> None:
        """Accept clients on another socket, and no longer on that of before."""

    def stop(self) -> None:
        """Accept no more clients and end when those who are there have been served."""


def make_server(
    application: ASGIApp,
    listener: socket.socket,
    *,
    tls: TLS | None = None,
    http2: bool = True,
    drain_seconds: int = 0,
) -> Server:
    """Return the server for an application; `drain_seconds` is what stopping may take."""
    if tls is None and not http2:
        return PlainServer(application, listener, drain_seconds)
    try:
        from sampan.registry.granian_server import GranianServer  # 40 MB that others do not need
    except ImportError as error:
        raise InvalidArgument(f"{error.name} is missing: install sampan[registry]") from None
    return GranianServer(application, listener, tls=tls, http2=http2, drain_seconds=drain_seconds)


class PlainServer:
    """Serves HTTP/1.1 in the clear; whole files leave by sendfile(2)."""

    def __init__(self, application: ASGIApp, listener: socket.socket, drain_seconds: int) -> None:
        limits = Limits(head_bytes=HEAD_BYTES, grace_seconds=drain_seconds or 1)
        self._server = AsgiServer(application, limits)
        self._listener = listener
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server.listen(self._listener.dup())
        return self

    async def ended(self) -> None:
        await self._stopping.wait()
        await self._server.stop()

    def renew(self, tls: TLS) -> None:
        """There are no certificates without TLS."""

    def move(self, listener: socket.socket) -> None:
        raise InvalidArgument("a server without certificates keeps its socket")

    def stop(self) -> None:
        self._stopping.set()

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        await self.ended()
