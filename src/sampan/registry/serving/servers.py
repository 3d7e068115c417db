"""The server of the registry: which one serves what (docs/decisions/041).

    async with make_server(application, listener) as server:
        await server.ended()

Plain HTTP/1.1 is served by our own server, TLS and HTTP/2 by granian; TLS that its rustls has not
(docs/decisions/054) by our own again, with HTTP/1.1.
"""

from __future__ import annotations

import socket

from starlette.types import ASGIApp

from sampan.errors import InvalidArgument
from sampan.http.limits import Limits
from sampan.http.tls import TLS, Clients
from sampan.registry.serving.own_server import OwnServer
from sampan.registry.serving.server import LIMITS, Server


def make_server(
    application: ASGIApp,
    listener: socket.socket,
    *,
    tls: TLS | None = None,
    http2: bool = True,
    limits: Limits = LIMITS,
) -> Server:
    """Return the server for an application."""
    if needs_own(tls) if tls else not http2:
        return OwnServer(application, listener, limits, tls)
    try:
        from sampan.registry.serving.granian_server import (
            GranianServer,  # 40 MB that others do not need
        )
    except ImportError as error:
        raise InvalidArgument(f"{error.name} is missing: install sampan[registry]") from None
    return GranianServer(application, listener, tls=tls, http2=http2, limits=limits)


def needs_own(tls: TLS) -> bool:
    """Tell whether rustls cannot do this: TLS with AEAD suites only, and verified certificates."""
    return bool(tls.ciphers) or tls.clients in (Clients.REQUEST, Clients.ANY)
