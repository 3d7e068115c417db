"""The frames in which stdout and stderr share one stream: {1|2, 0, 0, 0, big-endian length}."""

from __future__ import annotations

from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN, STDOUT, STDERR, SYSTEM_ERROR = range(4)
HEADER_BYTES = 8


class Frames:
    """Cuts a byte stream that arrives in any pieces; a frame's payload is passed on as it comes."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = STDOUT
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, bytes). Raises Internal for a header that no server sends."""
        view = memoryview(data)
        while view:
            if self._left:
                payload = view[: self._left]
                self._left -= len(payload)
                view = view[len(payload) :]
                yield self._stream, bytes(payload)
                continue
            missing = HEADER_BYTES - len(self._header)
            self._header += bytes(view[:missing])
            view = view[missing:]
            if len(self._header) == HEADER_BYTES:
                self._begin(self._header)
                self._header = b""

    def _begin(self, header: bytes) -> None:
        if header[0] > SYSTEM_ERROR:
            raise Internal(f"unrecognized stream: {header[0]}")
        # What a client of docker writes for stream 0 goes to stdout.
        self._stream = header[0] or STDOUT
        self._left = int.from_bytes(header[4:], "big")
