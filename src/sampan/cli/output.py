"""Standard output and error of the command line; everything that is printed goes through here."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FLUSH_BYTES = 64 << 10


class Output:
    """Text or bytes to a descriptor, collected until `flush`; UTF-8 whatever the locale says."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: str | bytes) -> None:
        """Add to the output."""
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogateescape")
        self._parts.append(data)
        self._size += len(data)
        if self._size >= FLUSH_BYTES:
            self.flush()

    def line(self, *words: object) -> None:
        """Write words separated by spaces, and the end of the line."""
        self.write(" ".join(map(str, words)) + "\n")

    def flush(self) -> None:
        """Write out what was collected. Raises OSError."""
        data = memoryview(b"".join(self._parts))
        self._parts, self._size = [], 0
        while data:
            data = data[os.write(self.descriptor, data) :]

    def is_terminal(self) -> bool:
        return os.isatty(self.descriptor)

    def copy(self, pieces: Iterable[bytes]) -> None:
        """Write pieces as they come."""
        for piece in pieces:
            self.write(piece)
            self.flush()
