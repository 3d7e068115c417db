"""Rows at the end of a terminal that are redrawn in place: one per layer of a pull or push.

The cursor stands below the last row. A row is cut at the terminal's width, so that it never takes
two lines. Of more rows than the terminal has, the latest changed ones are shown; all of them are
printed when the block ends, so what is left behind is complete. A terminal that became narrower
may have broken rows into several lines: then the block begins again below them.
"""

from __future__ import annotations

import time

from sampan.cli.display.tabwriter import display_width
from sampan.cli.display.terminal import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.display.output import Output

CROWDED_PAUSE = 0.05  # seconds between two drawings of a block that does not fit
NO_SIZE = (24, 80)  # of a terminal that does not say


class Rows:
    """A block of named rows."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._texts: dict[str, str] = {}  # by name, in the order of their arrival
        self._changed: dict[str, None] = {}  # names, the latest change last
        self._drawn: list[int] = []  # widths of the lines on the terminal
        self._crowded = False
        self._drawn_at = 0.0

    def width(self) -> int:
        """Return the terminal's width in characters."""
        return self._size()[1]

    def _size(self) -> tuple[int, int]:
        height, width = size_of(self._output.descriptor)
        return height or NO_SIZE[0], width or NO_SIZE[1]

    def set(self, name: str, text: str) -> None:
        """Change a row, or add it."""
        self._texts[name] = text
        self._changed.pop(name, None)
        self._changed[name] = None
        height, width = self._size()
        if any(drawn > width for drawn in self._drawn):
            self._drawn = []
        crowded = len(self._texts) > height - 1
        if crowded:
            self._draw_crowd(height, width)
        elif self._crowded or len(self._drawn) < len(self._texts) - 1:
            self._replace([*self._texts.values()], width)
        else:
            self._draw_row(name, width)
        self._crowded = crowded
        self._output.flush()

    def end(self) -> None:
        """Leave the rows as they are; the next ones begin a new block."""
        if self._crowded:
            self._replace([*self._texts.values()], self.width())
            self._output.flush()
        self._texts, self._changed, self._drawn = {}, {}, []
        self._crowded = False
        self._drawn_at = 0.0

    def _draw_row(self, name: str, width: int) -> None:
        index = list(self._texts).index(name)
        text = cut(self._texts[name], width)
        if index == len(self._drawn):
            self._drawn.append(0)
            self._raw("\n")
        up = len(self._drawn) - index
        self._drawn[index] = display_width(text)
        self._raw(f"\x1b[{up}A\x1b[2K\r{text}\r\x1b[{up}B")

    def _draw_crowd(self, height: int, width: int) -> None:
        now = time.monotonic()
        room = height - 2  # the last lines are for the number of the others, and the cursor
        if now - self._drawn_at < CROWDED_PAUSE or room < 1:
            return
        self._drawn_at = now
        chosen = {*list(self._changed)[-room:]}
        shown = [text for name, text in self._texts.items() if name in chosen]
        self._replace([*shown, f"({len(self._texts) - len(shown)} more)"], width)

    def _replace(self, texts: list[str], width: int) -> None:
        up = f"\x1b[{len(self._drawn)}A" if self._drawn else ""
        shown = [cut(text, width) for text in texts]
        self._drawn = [display_width(text) for text in shown]
        self._raw(f"{up}\r" + "".join(f"{text}\x1b[K\r\n" for text in shown) + "\x1b[J")

    def _raw(self, text: str) -> None:
        self._output.write(text.encode("utf-8", "surrogateescape"))


def cut(text: str, width: int) -> str:
    """Return as much of the text as fits into a line."""
    if display_width(text) <= width:
        return text
    room = width
    for at, character in enumerate(text):
        room -= display_width(character)
        if room < 0:
            return text[:at]
    return text
