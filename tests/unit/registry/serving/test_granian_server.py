"""The server for TLS and HTTP/2 among clients who take all that they can."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import hpack
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sampan.http.limits import Limits
from sampan.http.tls import TLS
from sampan.registry.serving import granian_server
from sampan.registry.serving.crowd import Sight, connections
from sampan.registry.serving.granian_server import STREAMS, GranianServer

HEADERS, RESET, SETTINGS = 1, 3, 4  # frames of HTTP/2 (RFC 9113, 6)
END_HEADERS_AND_STREAM = 5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GREEDY, MODEST = "127.0.0.1", "127.0.0.2"
Connect = Callable[..., Awaitable["Client"]]


def frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body
    )


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, path: str = "/") -> bytes:
        """Send a request of HTTP/1.1 and return the first line of the answer."""
        async with asyncio.timeout(20):
            self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await self.reader.readuntil(b"\r\n\r\n")
            assert await self.reader.readexactly(2) == b"ok"
            return head.partition(b"\r\n")[0]

    def begin_http2(self, window: int = 65535) -> None:
        self.writer.write(PREFACE + frame(SETTINGS, body=struct.pack(">HI", 4, window)))

    def request(self, stream: int, path: str) -> None:
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", path)]
        head = hpack.Encoder().encode(fields)
        self.writer.write(frame(HEADERS, END_HEADERS_AND_STREAM, stream, head))

    async def ended(self) -> None:
        """Return when the server has closed."""
        async with asyncio.timeout(20):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass


class Application:
    """Answers at once; or, on /long, with a body that never ends."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.abandoned = 0
        self.changed = asyncio.Condition()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._count(1)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while scope["path"] == "/long":
                message = {"type": "http.response.body", "body": bytes(65536), "more_body": True}
                await send(message)
            await send({"type": "http.response.body", "body": b"ok"})
        except ConnectionError:
            self.abandoned += 1
            raise
        finally:
            await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self.changed:
            self.running += change
            self.most = max(self.most, self.running)
            self.changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(condition)


def _certificate(authority: trustme.CA) -> TLS:
    issued = authority.issue_cert("localhost")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    return TLS(
        b"".join(part.bytes() for part in issued.cert_chain_pems),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def serving(
    story: Callable[[Application, Connect], Awaitable[None]],
    limits: Limits,
) -> None:
    authority = trustme.CA()
    tls = _certificate(authority)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    trusting.set_alpn_protocols(["h2", "http/1.1"])

    async def main() -> None:
        application = Application()
        listener = socket.create_server(("127.0.0.1", 0))
        clients: list[Client] = []

        async def connect(address: str = GREEDY) -> Client:
            port = listener.getsockname()[1]
            pair = await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=trusting,
                local_addr=(address, 0),
                server_hostname="localhost",
            )
            clients.append(Client(*pair))
            return clients[-1]

        with listener:
            async with GranianServer(application, listener, tls=tls, limits=limits):
                await story(application, connect)
                for client in clients:
                    client.writer.transport.abort()
                await application.until(lambda: application.running == 0)

    asyncio.run(main())


@pytest.mark.slow
def test_who_opens_more_connections_than_there_may_be_loses_them_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    all_there = threading.Event()

    def seen(port: int) -> Iterable[Sight]:
        return connections(port) if all_there.is_set() else ()

    monkeypatch.setattr(granian_server, "connections", seen)

    async def story(application: Application, connect: Connect) -> None:
        modest = await connect(MODEST)
        assert await modest.ask() == b"HTTP/1.1 200 OK"
        greedy = [await connect() for _ in range(12)]
        for client in greedy:
            await client.ask()
        all_there.set()
        async with asyncio.timeout(20):
            ends = [asyncio.create_task(client.ended()) for client in greedy]
            for end in itertools.islice(asyncio.as_completed(ends), 9):
                await end
        assert await modest.ask() == b"HTTP/1.1 200 OK"
        for task in ends:
            task.cancel()
        assert sum(map(asyncio.Task.done, ends)) >= 9
        await asyncio.wait(ends)

    serving(story, Limits(connections=4))


@pytest.mark.slow
@pytest.mark.parametrize("says", ["nothing", "the preface of HTTP/2"])
def test_a_connection_on_which_nothing_is_asked_is_ended(says: str) -> None:
    async def story(application: Application, connect: Connect) -> None:
        silent = await connect()
        if says != "nothing":
            silent.begin_http2()
        await silent.ended()

    serving(story, Limits(head_seconds=1.0))


@pytest.mark.slow
def test_streams_that_nobody_reads_hold_the_turns_of_their_client_alone() -> None:
    async def story(application: Application, connect: Connect) -> None:
        for _ in range(3):
            greedy = await connect()
            greedy.begin_http2(window=0)
            for number in range(STREAMS):
                greedy.request(2 * number + 1, "/long")
        await application.until(lambda: application.running == 4)
        modest = await connect(MODEST)
        assert await modest.ask() == b"HTTP/1.1 200 OK"
        assert application.most <= 5

    serving(story, Limits(requests=4))


@pytest.mark.slow
def test_an_answer_ends_when_its_stream_is_reset_or_its_connection_is_gone() -> None:
    async def story(application: Application, connect: Connect) -> None:
        client = await connect()
        client.begin_http2()
        client.request(1, "/long")
        client.request(3, "/long")
        await application.until(lambda: application.running == 2)
        client.writer.write(frame(RESET, stream=1, body=b"\0\0\0\x08"))
        await application.until(lambda: application.running == 1)
        client.writer.transport.abort()
        await application.until(lambda: application.running == 0)
        assert application.abandoned == 2
        other = await connect()
        other.writer.write(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        await other.reader.readexactly(1000)
        other.writer.transport.abort()
        await application.until(lambda: application.abandoned == 3)

    serving(story, Limits())


@pytest.mark.slow
def test_who_sends_a_large_body_that_nobody_wants_still_hears_why() -> None:
    async def story(application: Application, connect: Connect) -> None:
        client = await connect()
        size = 20 << 20
        client.writer.write(f"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size >> 16):
            client.writer.write(bytes(1 << 16))
            await client.writer.drain()
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert await client.reader.readexactly(2) == b"ok"
        assert await client.ask() == b"HTTP/1.1 200 OK", "the connection goes on"

    serving(story, Limits())


@pytest.mark.slow
def test_who_asks_before_it_sends_is_answered_before() -> None:
    async def story(application: Application, connect: Connect) -> None:
        client = await connect()
        head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        client.writer.write(head)
        async with asyncio.timeout(20):
            assert (await client.reader.readline()).startswith(b"HTTP/1.1 200")

    serving(story, Limits())
