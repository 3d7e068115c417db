"""A server that says what its script says, byte by byte: for clients under test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sampan.http.client import Client
from sampan.http.limits import ClientLimits
from sampan.http.pump import Halt
from sampan.http.urls import Url
from tests.session import PATIENCE, eventually

Script = Callable[["Peer"], None]
PATIENT = ClientLimits(
    head_bytes=16 << 10,
    connect_seconds=PATIENCE,
    answer_seconds=PATIENCE,
    document_seconds=PATIENCE,
    stall_seconds=PATIENCE,
    stall_bytes=1024,
    idle_connections=2,
)
QUICK = replace(PATIENT, answer_seconds=0.3, document_seconds=0.3, stall_seconds=0.3)


@dataclass
class Peer:
    """One connection, from the server's side."""

    sock: socket.socket
    ending: threading.Event
    seen: bytes = b""

    def head(self) -> bytes:
        """Return the next request's head, or b"" if the client has gone."""
        while b"\r\n\r\n" not in self.seen:
            if not (data := self.sock.recv(65536)):
                return b""
            self.seen += data
        head, _, self.seen = self.seen.partition(b"\r\n\r\n")
        return head

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self.sock.sendall(part)

    def drain(self) -> int:
        """Read until the client closes; return how much came."""
        count = len(self.seen)
        with contextlib.suppress(OSError):
            while data := self.sock.recv(1 << 20):
                count += len(data)
        return count

    def wait(self) -> None:
        """Say nothing more until the client has gone."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        while not self.ending.is_set() and not poll.poll(20):
            pass


@dataclass
class Scripted:
    """A running server."""

    port: int
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def scripted(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Run `script` for each connection on the loopback network."""
    ending = threading.Event()
    threads: list[threading.Thread] = []
    open_: list[socket.socket] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Scripted(listener.getsockname()[1])

        def serve(sock: socket.socket) -> None:
            with contextlib.suppress(OSError), sock:
                if tls is not None:
                    sock = tls.wrap_socket(sock, server_side=True)
                    open_.append(sock)
                with sock:
                    script(Peer(sock, ending))

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                if ending.is_set():
                    sock.close()
                    return
                server.connections += 1
                open_.append(sock)
                thread = threading.Thread(target=serve, args=(sock,))
                threads.append(thread)
                thread.start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield server
        finally:
            ending.set()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port)):
                pass
            for sock in open_:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            for thread in [acceptor, *threads]:
                thread.join(PATIENCE)
            for sock in open_:
                sock.close()


def answering(*answers: bytes) -> Script:
    """Return a script that gives these answers, one for each request of a connection."""

    def script(peer: Peer) -> None:
        for answer in answers:
            if not peer.head():
                return
            peer.say(answer)
        peer.drain()

    return script


def ok(body: bytes = b"", *headers: bytes) -> bytes:
    """Return an ordinary answer."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@contextlib.contextmanager
def nothing_leaks() -> Iterator[None]:
    """See that no descriptor and no thread is left."""

    def descriptors() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    def threads() -> set[str]:
        return {thread.name for thread in threading.enumerate()}

    before, running = len(descriptors()), threads()
    try:
        yield
    finally:
        eventually(lambda: len(descriptors()) <= before and not threads() - running)


def run(work: Callable[[Client], Awaitable[Any]], **options: Any) -> Any:
    """Do `work` with a client; nothing may be left after it."""

    async def main() -> Any:
        async with Client(limits=options.pop("limits", PATIENT), **options) as client:
            return await work(client)

    with nothing_leaks():
        return asyncio.run(main())


async def get(client: Client, url: str, limit: int = 1000) -> bytes:
    async with await client.send("GET", Url.parse(url)) as answer:
        return await answer.read(limit)


async def poured(client: Client, url: str) -> bytes:
    found = bytearray()

    def sink(view: memoryview, _: Halt) -> None:
        found.extend(view)

    async with await client.send("GET", Url.parse(url)) as answer:
        await answer.pour(sink)
    return bytes(found)
