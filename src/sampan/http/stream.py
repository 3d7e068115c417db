"""Byte streams on connected sockets, plain or TLS: the floor on which HTTP and hijacks stand.

asyncio's own TLS transport ends a connection when the peer closes its side; Docker's attach needs
the other half to go on. So both classes work on the bare socket.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from sampan.http.tls import TLSContext

CHUNK = 64 << 10  # bytes of one receive: what a pipe holds
RECORDS = 64  # of TLS that are read at once: of tiny ones, thousands come together
HANDSHAKE_SECONDS = 10.0


class Stream(Protocol):
    """A connected byte stream whose two directions end one by one."""

    @property
    def sock(self) -> socket.socket:
        """The socket below."""

    async def receive(self, size: int = CHUNK) -> bytes:
        """Return the next bytes, at most `size`; b"" when the peer has closed its side."""

    async def send(self, *parts: bytes) -> None:
        """Send all bytes, waiting while the peer is slow."""

    async def close_write(self) -> None:
        """Tell the peer that nothing more will come; receiving goes on."""

    def close(self, clean: bool = False) -> None:
        """End the stream; a second call does nothing.

        `clean` says that all was sent, which TLS can tell the peer.
        """

    def push_back(self, data: bytes) -> None:
        """Put bytes that were read too early in front of what comes next."""

    async def disconnected(self) -> None:
        """Return when both directions have ended; does not read, so it may follow an EOF."""

    async def hung_up(self) -> None:
        """Return when the peer is gone; bytes that arrive meanwhile are kept.

        On a Unix socket a peer that only closed its writing side is not gone; on TCP the two
        look alike, and it is taken as gone, as Docker's server does.
        """


async def ready(add: Callable[..., None], remove: Callable[[int], bool], fd: int) -> None:
    """Wait until the event loop says that `fd` is ready; nothing is read or written."""
    ready = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    add(fd, wake)
    try:
        await ready
    finally:
        remove(fd)


class SocketStream:
    """A stream on a plain socket. Only one task at a time may receive, and only one may send."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._early = b""
        self._at_once = False  # the last receive did not have to wait
        self._loop = asyncio.get_running_loop()
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def readable(self) -> None:
        """Wait until a receive would not block."""
        if not self._early:
            await ready(self._loop.add_reader, self._loop.remove_reader, self.sock.fileno())

    async def receive(self, size: int = CHUNK) -> bytes:
        if self._at_once:  # a peer that sends as fast as we read must not keep all others waiting
            await asyncio.sleep(0)
        self._at_once = True
        while True:
            try:
                return self.receive_now(size)
            except BlockingIOError:
                self._at_once = False
                await self.readable()

    def receive_now(self, size: int = CHUNK) -> bytes:
        """Return the next bytes; raise BlockingIOError if there are none yet."""
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        return self.sock.recv(size)

    async def send(self, *parts: bytes) -> None:
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await ready(self._loop.add_writer, self._loop.remove_writer, self.sock.fileno())

    async def close_write(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster

    def close(self, clean: bool = False) -> None:
        self.sock.close()

    def push_back(self, data: bytes) -> None:
        self._early = data + self._early

    async def hung_up(self) -> None:
        while True:
            if self._early:  # a client that sends ahead is there; watch no more
                await self._loop.create_future()
            await self.readable()
            try:
                data = self.sock.recv(CHUNK)
            except BlockingIOError:
                continue
            except OSError:
                return
            if data:
                self.push_back(data)
            elif self.sock.family == socket.AF_UNIX:
                await self.disconnected()
                return
            else:
                return

    async def disconnected(self) -> None:
        # A socket at its end is readable for ever. An epoll with no events of its own still tells
        # of a hang-up, and can itself be watched: no loop turns while nothing happens.
        with select.epoll(1) as watcher:
            watcher.register(self.sock, 0)
            await ready(self._loop.add_reader, self._loop.remove_reader, watcher.fileno())


class TLSStream:
    """A stream with TLS on a plain one. Receiving and sending may overlap."""

    def __init__(self, raw: SocketStream, context: TLSContext) -> None:
        self.raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = asyncio.Lock()
        self._early = b""
        self._at_once = False  # the last receive did not have to wait
        self._eof = False
        self._closed_write = False

    @classmethod
    async def accept(cls, raw: SocketStream, context: TLSContext) -> TLSStream:
        """Do the server's side of the handshake; raises OSError (ssl.SSLError) or TimeoutError."""
        stream = cls(raw, context)
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await stream._handshake()
        return stream

    async def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
                continue
            except ssl.SSLError:
                await self._flush()  # the alert tells the client what was wrong
                raise
            await self._flush()
            return

    @property
    def sock(self) -> socket.socket:
        return self.raw.sock

    async def receive(self, size: int = CHUNK) -> bytes:
        if self._at_once:
            await asyncio.sleep(0)
        self._at_once = True
        while True:
            try:
                return self._receive_now(size)
            except ssl.SSLWantReadError:
                self._at_once = False
                await self._flush()
                await self._feed()

    def _receive_now(self, size: int) -> bytes:
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        pieces: list[bytes] = []
        while (
            size > 0 and not self._eof and len(pieces) < RECORDS
        ):  # a record of TLS has 16 KiB at most
            try:
                data = self._tls.read(size)
            except ssl.SSLWantReadError:
                if not pieces:
                    raise
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            self._eof = not data
            pieces.append(data)
            size -= len(data)
        return b"".join(pieces)

    async def _feed(self) -> None:
        data = await self.raw.receive()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[self._tls.write(view[: 4 * CHUNK]) :]
                await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            async with self._sending:
                await self.raw.send(self._outgoing.read())

    async def close_write(self) -> None:
        if self._closed_write:
            return
        self._closed_write = True
        self._unwrap()
        try:
            await self._flush()
        except OSError:
            return
        if self._eof:
            await self.raw.close_write()

    def _unwrap(self) -> None:
        try:
            self._tls.unwrap()
        except OSError:
            pass  # SSLWantReadError: our close_notify is out, the peer's has not come yet

    def close(self, clean: bool = False) -> None:
        if clean and not self._closed_write and not self._sending.locked():
            self._closed_write = True
            try:
                self._unwrap()
                self.raw.sock.send(self._outgoing.read())  # a few bytes, or nobody reads them
            except OSError:
                pass
        self.raw.close()

    def push_back(self, data: bytes) -> None:
        self._early = data + self._early

    async def disconnected(self) -> None:
        await self.raw.disconnected()

    async def hung_up(self) -> None:
        while True:
            if self._early:
                await asyncio.get_running_loop().create_future()
            try:
                data = self._receive_now(CHUNK)
            except ssl.SSLWantReadError:
                await self.raw.readable()
                try:
                    early = self.raw.receive_now()
                except BlockingIOError:
                    continue
                except OSError:
                    return
                self._incoming.write(early) if early else self._incoming.write_eof()
                continue
            except OSError:
                return
            if not data:
                return
            self.push_back(data)
