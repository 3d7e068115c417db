"""The two endpoints that become gRPC: calls of clients to us, and of us to clients.

Source: moby daemon/server/router/grpc/grpc.go, daemon/server/router/session/session_routes.go.
"""

from __future__ import annotations

from typing import Final

from sampan.api.handler import Backend, Handler
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.http.router import Routes
from sampan.http.stream import Stream

routes: Routes[Handler] = Routes()
_PROTOCOL: Final = "h2c"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\n"  # the part of it that looked like HTTP/1
_SWITCHED: Final = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@routes.on("POST", "/grpc")
async def grpc(backend: Backend, request: Request) -> None:
    """Serve BuildKit's API on this connection."""
    from sampan.http.grpc import serve  # gRPC costs memory that engines without builds save

    stream = await _take_over(request)
    await serve(stream, backend.buildkit.services())


async def prior_knowledge(backend: Backend, request: Request) -> None:
    """Serve BuildKit's API to a client that has spoken HTTP/2 from its first byte on."""
    from sampan.http.grpc import serve

    stream = await request.take_over(b"")
    stream.push_back(_PREFACE)
    await serve(stream, backend.buildkit.services())


@routes.on("POST", "/session")
async def session(backend: Backend, request: Request) -> None:
    """Keep a client at hand that serves its files to its builds."""
    named = request.headers.get("x-docker-expose-session-uuid")
    if not named:
        raise InvalidArgument("no session id")
    methods = request.headers.all("x-docker-expose-session-grpc-method")
    stream = await _take_over(request)
    shared_key = request.headers.get("x-docker-expose-session-sharedkey") or ""
    await backend.buildkit.sessions.keep(named, methods, stream, shared_key)


async def _take_over(request: Request) -> Stream:
    upgrade = request.headers.get("upgrade")
    if upgrade != _PROTOCOL:
        raise InvalidArgument(f"protocol {upgrade or 'none'} not supported: only h2c is")
    return await request.take_over(_SWITCHED)
