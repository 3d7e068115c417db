"""A client's socket, plain or TLS, that never blocks: for a coroutine, then for a thread.

The event loop speaks the heads of an exchange; the bytes of a large body are moved in a thread
of their own (`pump`), because hashing and copying release the interpreter's lock there and a turn
of the loop per chunk costs more than the chunk.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable

from sampan.http.stream import CHUNK, ready


class Blocked(Exception):
    """The operation has to wait for `events` (of poll(2)) on the socket."""

    def __init__(self, events: int) -> None:
        super().__init__(events)
        self.events = events


class Wire:
    """One connected socket. One user at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    def receive_into(self, view: memoryview) -> int:
        """Receive what there is; 0 at the end. Raises Blocked, OSError."""
        try:
            return self.sock.recv_into(view)
        except (BlockingIOError, ssl.SSLWantReadError):
            raise Blocked(select.POLLIN) from None
        except ssl.SSLWantWriteError:
            raise Blocked(select.POLLOUT) from None

    def send_some(self, view: memoryview) -> int:
        """Send what the kernel takes now. Raises Blocked, OSError."""
        try:
            return self.sock.send(view)
        except (BlockingIOError, ssl.SSLWantWriteError):
            raise Blocked(select.POLLOUT) from None
        except ssl.SSLWantReadError:
            raise Blocked(select.POLLIN) from None

    async def receive(self, size: int = CHUNK) -> bytes:
        """Return the next bytes, at most `size`; b"" at the end."""
        buffer = bytearray(size)
        count = await self._attempt(self.receive_into, memoryview(buffer))
        return bytes(memoryview(buffer)[:count])

    async def send(self, data: bytes) -> None:
        """Send all bytes."""
        view = memoryview(data)
        while view:
            view = view[await self._attempt(self.send_some, view) :]

    async def handshake(self) -> None:
        """Begin TLS on a socket that `wrap_socket` has made. Raises ssl.SSLError, OSError."""
        sock = self.sock
        assert isinstance(sock, ssl.SSLSocket)

        def shake(_: memoryview) -> int:
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                raise Blocked(select.POLLIN) from None
            except ssl.SSLWantWriteError:
                raise Blocked(select.POLLOUT) from None
            return 0

        await self._attempt(shake, memoryview(b""))

    def is_quiet(self) -> bool:
        """Tell whether an idle connection is still there, and nothing unasked came on it."""
        try:
            self.receive_into(memoryview(bytearray(1)))
        except Blocked:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        self.sock.close()

    async def _attempt(self, operation: Callable[[memoryview], int], view: memoryview) -> int:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return operation(view)
            except Blocked as blocked:
                if blocked.events == select.POLLIN:
                    await ready(loop.add_reader, loop.remove_reader, self.sock.fileno())
                else:
                    await ready(loop.add_writer, loop.remove_writer, self.sock.fileno())
