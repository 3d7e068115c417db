"""A server with a small handler, and raw sockets as its clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from sampan.errors import InvalidArgument
from sampan.http.connection import Answer, Handler
from sampan.http.limits import Limits
from sampan.http.request import Request
from sampan.http.response import Response, StreamingResponse
from sampan.http.server import Server
from tests.session import PATIENCE

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
QUICK = Limits(
    head_bytes=16 << 10,
    head_seconds=0.2,
    idle_seconds=0.2,
    linger_seconds=0.2,
    drain_bytes=4096,
    grace_seconds=0.2,
)


async def count() -> AsyncIterator[bytes]:
    for number in (b"one", b"two", b"three"):
        yield number


async def break_off() -> AsyncIterator[bytes]:
    yield b"begin"
    raise InvalidArgument("the end is missing")


async def for_ever() -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.get_running_loop().create_future()


async def echo_rest(request: Request) -> None:
    """Send back what comes until the client ends its side, then say goodbye."""
    stream = await request.take_over(UPGRADED)
    while data := await stream.receive():
        await stream.send(data)
    await stream.send(b"<eof>")


async def demo(request: Request) -> Answer:
    match request.path:
        case "/ping":
            return Response(200, b"OK", content_type="text/plain")
        case "/echo":
            try:
                return Response(200, await request.read(1 << 20))
            except InvalidArgument as error:
                return Response(400, str(error).encode())
        case "/ignore":
            return Response(200, b"unread")
        case "/count":
            return StreamingResponse(200, count())
        case "/break":
            return StreamingResponse(200, break_off())
        case "/forever":
            request.cancel_when_client_leaves()
            return StreamingResponse(200, for_ever())
        case "/watched":
            request.cancel_when_client_leaves()
            await asyncio.sleep(0)  # the watch begins
            return Response(200, b"done")
        case "/hijack":
            await echo_rest(request)
            return None
        case "/bug":
            raise RuntimeError("a bug")
    return Response(404, b"nothing")


class Peer:
    """The client's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def until(self, mark: bytes) -> bytes:
        """Receive until `mark` has come; fails if the server closes before."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            while mark not in data:
                piece = await self.loop.sock_recv(self.sock, 65536)
                assert piece, f"closed after {data!r}"
                data += piece
        return data

    async def rest(self) -> bytes:
        """Receive until the server closes."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            while piece := await self.loop.sock_recv(self.sock, 65536):
                data += piece
        return data


Connect = Callable[[], Peer]


def serve_while(
    test: Callable[[Connect, Server], Awaitable[None]],
    handler: Handler = demo,
    limits: Limits = QUICK,
    made: Server | None = None,
) -> None:
    """Run `test` against a server, one of ours or `made`; every descriptor is closed at the end."""

    async def main() -> None:
        clients: list[socket.socket] = []
        ours = Server(handler, headers=[("Server", "test")], limits=limits)
        async with made or ours as server:

            def connect() -> Peer:
                near, far = socket.socketpair()
                clients.append(near)
                server.serve(far)
                return Peer(near)

            try:
                await test(connect, server)
            finally:
                for client in clients:
                    client.close()

    asyncio.run(main())


@pytest.fixture
def talk() -> Callable[..., None]:
    """Return `serve_while`, for tests that write bytes and read bytes."""
    return serve_while


@pytest.fixture
def quick() -> Limits:
    return QUICK
