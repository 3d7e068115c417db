"""Stands for a while where the server listens: answers ACME servers, and lets all others through.

TLS-ALPN-01 comes to the port of the registry and is told only by the first message of TLS, which
the server itself cannot look into. So while challenges are open, connections come here; those that
are for the registry are passed on to it, byte by byte, also after the gate is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import Self

from sampan.registryd.acme.challenge import PROTOCOL
from sampan.registryd.acme.hello import LIMIT, Hello, NoHello, parse_hello

log = logging.getLogger(__name__)
HELLO_SECONDS = 10.0  # for a client to say for whom it is, and for a handshake
PIECE = 64 << 10


class Gate:
    """Accepts on a listening socket, from `async with` until `shut`."""

    def __init__(self, listener: socket.socket, inner: str | bytes = "") -> None:
        """`inner` is the name of the Unix socket where the server listens; empty: there is none."""
        self._listener = listener.dup()
        self._listener.setblocking(False)
        self._inner = inner
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.proofs: dict[str, ssl.SSLContext] = {}  # by host

    async def __aenter__(self) -> Self:
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def shut(self) -> None:
        """Accept no more; those who are inside stay."""
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
            self._accepting = None
            self._listener.close()

    @property
    def is_empty(self) -> bool:
        """Nobody is inside any more."""
        return not self._tasks

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # too many open files, say
                log.error("a connection is not accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            sock.setblocking(False)
            task = asyncio.create_task(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                async with asyncio.timeout(HELLO_SECONDS):
                    hello, data = await self._hello(sock)
                    if hello and PROTOCOL.encode() in hello.protocols:
                        await self._prove(sock, hello, data)
                        return
                if self._inner:
                    await self._pass_on(sock, data)
            except (OSError, TimeoutError) as error:
                log.debug("a connection at the gate has ended: %s", error)

    async def _hello(self, sock: socket.socket) -> tuple[Hello | None, bytes]:
        """Return what a client says first; what is no TLS is the server's affair."""
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < LIMIT:
            piece = await loop.sock_recv(sock, PIECE)
            if not piece:
                raise ConnectionError("the client said nothing")
            data += piece
            try:
                if hello := parse_hello(data):
                    return hello, data
            except NoHello:
                break
        return None, data

    async def _prove(self, sock: socket.socket, hello: Hello, data: bytes) -> None:
        """Shake hands with an ACME server: the certificate is all that it wants."""
        context = self.proofs.get(hello.name)
        if context is None:
            log.warning("nobody asked for a proof for %r", hello.name[:255])
            return
        loop = asyncio.get_running_loop()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(data)
        while True:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            await loop.sock_sendall(sock, outgoing.read())
            if done:
                log.info("an ACME server has looked for the proof for %s", hello.name)
                return
            piece = await loop.sock_recv(sock, PIECE)
            if not piece:
                raise ConnectionError("the handshake was broken off")
            incoming.write(piece)

    async def _pass_on(self, sock: socket.socket, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as inner:
            inner.setblocking(False)
            await loop.sock_connect(inner, self._inner)
            await loop.sock_sendall(inner, data)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(sock, inner))
                group.create_task(_pump(inner, sock))


async def _pump(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while piece := await loop.sock_recv(source, PIECE):
            await loop.sock_sendall(target, piece)
            await asyncio.sleep(0)  # who sends without a pause keeps nobody waiting
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
