"""Standard output and error of the command line; everything that is printed goes through here.

Text may have come from a container, an image or a registry: on a terminal its control characters
are shown, not obeyed. `Styled` text and bytes are written as they are.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FLUSH_BYTES = 64 << 10


def plain(text: str) -> str:
    """Return text of one or more lines with its control characters shown."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    from sampan.cli.display import harmless

    return harmless.lines(text)


class Styled(str):
    """Text whose escape sequences are ours, or those of the user's own format."""

    __slots__ = ()


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, which JSON can have
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


class Output:
    """Text or bytes to a descriptor, collected until `flush`; UTF-8 whatever the locale says."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._terminal: bool | None = None  # not asked yet
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: str | bytes) -> None:
        """Add to the output."""
        if isinstance(data, str):
            if type(data) is not Styled and self.is_terminal():
                data = plain(data)
            data = _encoded(data)
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
        if self._terminal is None:
            self._terminal = os.isatty(self.descriptor)
        return self._terminal

    def copy(self, pieces: Iterable[bytes]) -> None:
        """Write pieces as they come."""
        for piece in pieces:
            self.write(piece)
            self.flush()
