"""Bodies of requests on a stream: of a length that was told, or in chunks (RFC 9112, 6 and 7).

What follows a body stays in the stream. A body that is cut off raises ConnectionError, one that is
malformed InvalidArgument.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol

from sampan.errors import InvalidArgument
from sampan.http.stream import SocketStream, Stream

PIECE = 256 << 10  # bytes that are read at once
PIECES = 1024  # chunks that are joined at once: of tiny ones, thousands come in one piece
BUFFER = 512 << 10  # bytes that a thread receives before it passes them on
TURN = 8 << 20  # bytes that a thread receives before others have their turn
BREATH = 2  # milliseconds that a thread waits for more than it has
BREATHS = 8  # for little, in one turn: slow clients must not keep all threads waiting
LITTLE = 16 << 10  # bytes
Sink = Callable[[memoryview], None]
_LINE = 4096  # bytes of a chunk's size with its extensions, or of a trailer
_TRAILERS = 64
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?", re.ASCII)


class Body(Protocol):
    """A body that is read piece by piece."""

    @property
    def complete(self) -> bool:
        """Whether all of it was read."""

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""


class CutOff(ConnectionResetError):
    """The client went away amid a body."""


class LengthBody:
    """A body whose length is known; 0 where there is none."""

    def __init__(self, stream: Stream, length: int) -> None:
        self._stream = stream
        self._left = length

    @property
    def complete(self) -> bool:
        return not self._left

    async def read(self) -> bytes:
        if not self._left:
            return b""
        data = await self._stream.receive(min(self._left, PIECE))
        if not data:
            raise CutOff("the body is cut off")
        self._left -= len(data)
        return data

    async def pour(self, sink: Sink, threads: Executor, idle_seconds: float) -> None:
        """Give the rest of the body to `sink`, in a thread: from a plain socket to its buffer.

        The bytes are valid during the call only. Raises CutOff, TimeoutError if nothing comes for
        too long, and what `sink` raises.
        """
        loop = asyncio.get_running_loop()
        assert isinstance(self._stream, SocketStream)
        async with asyncio.timeout(idle_seconds):
            early = await self.read()
        drain = _Drain(self._stream.sock, sink, min(self._left, BUFFER))
        step: asyncio.Future[int]
        step = loop.run_in_executor(threads, drain.pass_on, early)
        while True:
            try:
                self._left -= await asyncio.shield(step)
            except asyncio.CancelledError:
                await asyncio.wait([step])  # nobody may close what a thread still uses
                raise
            if not self._left:
                return
            async with asyncio.timeout(idle_seconds):
                await self._stream.readable()
            step = loop.run_in_executor(threads, drain, min(self._left, TURN))


class _Drain:
    """What a thread does with the bytes that have arrived."""

    def __init__(self, sock: socket.socket, sink: Sink, room: int = BUFFER) -> None:
        """`room`: how many bytes it may keep, while they come."""
        self._sock = sock
        self._sink = sink
        self._room = room
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._breaths = 0  # that are left in this turn

    def pass_on(self, early: bytes) -> int:
        """Begin with what was read already; it is not counted."""
        if early:
            self._sink(memoryview(early))
        return 0

    def __call__(self, most: int) -> int:
        """Receive up to `most` bytes without waiting for long; return how many."""
        taken, self._breaths = 0, BREATHS
        buffer = memoryview(bytearray(min(self._room, most)))  # not for those who say nothing
        while taken < most:
            count = self._receive(buffer[: most - taken])
            if not count:
                break
            self._sink(buffer[:count])
            taken += count
            if not self._breaths:
                break
        return taken

    def _receive(self, buffer: memoryview) -> int:
        filled, count = 0, 0
        while filled < len(buffer):
            try:
                count = self._sock.recv_into(buffer[filled:])
            except BlockingIOError:
                if filled and self._breaths and self._poll.poll(BREATH):
                    self._breaths -= count < LITTLE
                    continue
                break
            except OSError:
                count = 0
            if not count:
                if filled:
                    break  # what came before counts; the next call finds the end again
                raise CutOff("the body is cut off")
            filled += count
        return filled


class ChunkedBody:
    """A body in chunks. Small ones that have arrived together are one piece."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0  # in the buffer: what is before has been read
        self._left = 0  # of the chunk that we are in
        self._ends = False  # the line end behind a chunk comes next
        self.complete = False

    async def read(self) -> bytes:
        if self._at < len(self._buffer):
            await asyncio.sleep(0)  # there was more than others should wait for
        pieces: list[bytes] = []
        size = 0
        # What arrives may always end within a line: without an end, all of it would be one piece.
        while not self.complete and size < PIECE and len(pieces) < PIECES:
            if self._at == len(self._buffer):
                if pieces:
                    break
                await self._more()
            if self._left:
                piece = self._buffer[self._at : self._at + self._left]
                pieces.append(piece)
                size += len(piece)
                self._at += len(piece)
                self._left -= len(piece)
                self._ends = not self._left
            else:
                await self._next_chunk()
        return b"".join(pieces)

    async def _more(self) -> None:
        data = await self._stream.receive(PIECE)
        if not data:
            raise CutOff("the body is cut off")
        self._buffer, self._at = self._buffer[self._at :] + data, 0

    async def _line(self) -> bytes:
        """Return what comes before the next line end."""
        while (end := self._buffer.find(b"\r\n", self._at, self._at + _LINE)) < 0:
            if len(self._buffer) - self._at >= _LINE:
                raise InvalidArgument("a line of the chunked body is too long")
            await self._more()
        line = self._buffer[self._at : end]
        self._at = end + 2
        return line

    async def _next_chunk(self) -> None:
        if self._ends and await self._line():
            raise InvalidArgument("a chunk is longer than it says")
        self._ends = False
        line = await self._line()
        match = _SIZE.fullmatch(line)
        if match is None:
            raise InvalidArgument("the size of a chunk is no number")
        self._left = int(match[1], 16)
        if not self._left:
            await self._trailers()

    async def _trailers(self) -> None:
        for _ in range(_TRAILERS):
            if not await self._line():
                self.complete = True
                self._stream.push_back(self._buffer[self._at :])
                return
        raise InvalidArgument("the chunked body has too many trailers")
