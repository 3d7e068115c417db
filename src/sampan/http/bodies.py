"""Bodies of requests on a stream: of a length that was told, or in chunks (RFC 9112, 6 and 7).

What follows a body stays in the stream. A body that is cut off raises ConnectionError, one that is
malformed InvalidArgument.
"""

from __future__ import annotations

import re
from typing import Protocol

from sampan.errors import InvalidArgument
from sampan.http.stream import Stream

PIECE = 256 << 10  # bytes that are read at once
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
            raise ConnectionResetError("the body is cut off")
        self._left -= len(data)
        return data


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
        pieces: list[bytes] = []
        while not self.complete:
            if self._at == len(self._buffer):
                if pieces:
                    break
                await self._more()
            if self._left:
                piece = self._buffer[self._at : self._at + self._left]
                pieces.append(piece)
                self._at += len(piece)
                self._left -= len(piece)
                self._ends = not self._left
            else:
                await self._next_chunk()
        return b"".join(pieces)

    async def _more(self) -> None:
        data = await self._stream.receive(PIECE)
        if not data:
            raise ConnectionResetError("the body is cut off")
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
