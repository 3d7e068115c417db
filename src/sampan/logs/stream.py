"""Docker's frames: how stdout and stderr share one connection when there is no terminal.

A frame is eight bytes (stream number, three zeros, length as 32 bits big endian) and the payload.
Source: Docker Engine API, "Attach to a container", stream format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sampan.errors import InvalidArgument

STDIN, STDOUT, STDERR, SYSTEM_ERROR = 0, 1, 2, 3
NUMBERS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}
HEADER = struct.Struct(">BxxxL")
FRAME_BYTES = 64 << 20  # longer ones are refused: no honest sender makes them


def frame(stream: int, payload: bytes) -> bytes:
    """Return `payload` as one frame of `stream`."""
    return HEADER.pack(stream, len(payload)) + payload


class FrameReader:
    """Takes frames apart that arrive in pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Add `data` and yield each frame that is now complete: stream number and payload.

        Raises InvalidArgument for what is no frame.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            stream, length = HEADER.unpack_from(self._buffer)
            if stream > SYSTEM_ERROR or length > FRAME_BYTES or any(self._buffer[1:4]):
                raise InvalidArgument(f"Unrecognized input header: {self._buffer[0]}")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield stream, payload
