"""Attach over a WebSocket: the streams of a container as messages."""

from __future__ import annotations

from sampan.api.containers_streams import attach_query
from sampan.api.detach import parse_keys
from sampan.api.handler import Backend, Handler
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.http.router import Routes

routes: Routes[Handler] = Routes()
BINARY_SINCE = (1, 28)


@routes.on("GET", "/containers/{name}/attach/ws")
async def attach(backend: Backend, request: Request, name: str) -> None:
    token = _check_handshake(request)
    keys = parse_keys(request.query.get("detachKeys"))
    # Before 1.42 the three streams could not be chosen.
    wanted = attach_query(request, every_stream=request.version < (1, 42))
    attachment = await backend.containers.attach(name, wanted)
    try:
        from sampan.api.websocket_talk import Talk, accept  # half a megabyte that few clients need

        stream = await request.take_over(accept(token))
        talk = Talk(stream, binary=request.version >= BINARY_SINCE)
        await talk.run(attachment, keys if wanted.stdin else b"")
    finally:
        if attachment.socket is not None:
            attachment.socket.close()


def _check_handshake(request: Request) -> str:
    """Return the client's key; raises InvalidArgument for what is no WebSocket handshake."""
    headers = request.headers
    if headers.get("upgrade").lower() != "websocket":
        raise InvalidArgument("not websocket protocol")
    if "upgrade" not in headers.get("connection").lower():
        raise InvalidArgument("not websocket protocol: no Connection: Upgrade")
    if headers.get("sec-websocket-version") != "13":
        raise InvalidArgument("not supported websocket version: Sec-WebSocket-Version must be 13")
    key = headers.get("sec-websocket-key")
    if not 16 <= len(key) <= 64 or not key.isascii():
        raise InvalidArgument("mismatch challenge/response: Sec-WebSocket-Key is missing")
    return key
