"""Our own server, for HTTP/1.1: in the clear (docs/decisions/041), or with TLS that rustls has not.

The latter are certificates of clients that nobody verifies, and cipher suites of one's choice
(docs/decisions/054).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Self

from starlette.types import ASGIApp

from sampan.errors import InvalidArgument
from sampan.http.asgi import AsgiServer
from sampan.http.limits import Limits
from sampan.http.tls import TLS

if TYPE_CHECKING:
    from sampan.http.openssl import OpenSSLContext


class OwnServer:
    """Serves HTTP/1.1; without TLS whole files leave by sendfile(2)."""

    def __init__(
        self,
        application: ASGIApp,
        listener: socket.socket,
        limits: Limits,
        tls: TLS | None = None,
    ) -> None:
        """Raises InvalidArgument if the parts of `tls` do not go together."""
        self._server = AsgiServer(application, limits)
        self._listener = listener
        self._stopping = asyncio.Event()
        self._context: OpenSSLContext | None = None
        if tls:
            from sampan.http.openssl import OpenSSLContext  # cryptography: 40 ms

            self._context = OpenSSLContext(tls)

    async def __aenter__(self) -> Self:
        self._server.listen(self._listener.dup(), self._context)
        return self

    async def ended(self) -> None:
        await self._stopping.wait()
        await self._server.stop()

    def renew(self, tls: TLS) -> None:
        if self._context is None:
            raise InvalidArgument("a server without certificates cannot have others")
        self._context.renew(tls)

    def move(self, listener: socket.socket) -> None:
        self._server.close_listeners()
        self._listener = listener
        self._server.listen(listener.dup(), self._context)

    def stop(self) -> None:
        self._stopping.set()

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        await self.ended()
