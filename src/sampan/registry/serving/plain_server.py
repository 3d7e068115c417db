"""The server for plain HTTP/1.1: our own (docs/decisions/041)."""

from __future__ import annotations

import asyncio
import socket
from typing import Self

from starlette.types import ASGIApp

from sampan.errors import InvalidArgument
from sampan.http.asgi import AsgiServer
from sampan.http.limits import Limits
from sampan.registry.serving.server import TLS


class PlainServer:
    """Serves HTTP/1.1 in the clear; whole files leave by sendfile(2)."""

    def __init__(self, application: ASGIApp, listener: socket.socket, limits: Limits) -> None:
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
