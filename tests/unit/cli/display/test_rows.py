"""Rows that are redrawn in place, as a terminal shows them."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator

import pyte
import pytest

from sampan.cli.display import rows
from sampan.cli.display.output import Output
from sampan.cli.display.rows import Rows, cut


class Terminal:
    """A terminal that is looked at; its size can be changed."""

    def __init__(self, height: int, width: int) -> None:
        self.master, self.slave = pty.openpty()
        self._screen = pyte.HistoryScreen(width, height, history=1000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self.resize(height, width)

    def resize(self, height: int, width: int) -> None:
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        self._screen.resize(height, width)

    def look(self) -> None:
        """Take in what was written since."""
        os.set_blocking(self.master, False)
        while True:
            try:
                self._stream.feed(os.read(self.master, 1 << 16))
            except BlockingIOError:
                return

    @property
    def lines(self) -> list[str]:
        """Everything that was ever shown, from the first line to the last that is not empty."""
        self.look()
        past = [
            "".join(row[column].data for column in range(self._screen.columns)).rstrip()
            for row in self._screen.history.top
        ]
        shown = [*past, *(row.rstrip() for row in self._screen.display)]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    @property
    def screen(self) -> list[str]:
        self.look()
        return [row.rstrip() for row in self._screen.display]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal(10, 40)
    yield terminal
    os.close(terminal.master)
    os.close(terminal.slave)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CROWDED_PAUSE", 0.0)


def test_a_row_changes_where_it_stands(terminal: Terminal) -> None:
    block = Rows(Output(terminal.slave))
    for name in ("a", "b", "c"):
        block.set(name, f"{name}: waiting")
    block.set("b", "b: done")
    assert terminal.lines == ["a: waiting", "b: done", "c: waiting"]


def test_a_new_block_begins_below_the_old_one(terminal: Terminal) -> None:
    block = Rows(Output(terminal.slave))
    block.set("a", "a: one")
    block.end()
    block.set("a", "a: two")
    assert terminal.lines == ["a: one", "a: two"]


def test_a_long_row_is_cut_and_stays_one_line(terminal: Terminal) -> None:
    block = Rows(Output(terminal.slave))
    block.set("a", "a" * 100)
    block.set("b", "b")
    block.set("a", "漢" * 30)
    block.set("b", "bb")
    assert terminal.lines == ["漢" * 20, "bb"]


def test_of_many_rows_the_latest_are_shown_and_in_the_end_all(terminal: Terminal) -> None:
    block = Rows(Output(terminal.slave))
    names = [f"layer{number}" for number in range(40)]
    for name in names:
        block.set(name, f"{name}: waiting")
    block.set("layer3", "layer3: 5MB")
    assert "layer3: 5MB" in terminal.screen
    assert terminal.screen[-2] == "(32 more)"
    for name in names:
        block.set(name, f"{name}: done")
    block.end()
    assert terminal.lines == [f"{name}: done" for name in names]


def test_rows_that_were_many_for_a_small_terminal_fit_a_larger_one(terminal: Terminal) -> None:
    block = Rows(Output(terminal.slave))
    for number in range(12):
        block.set(str(number), f"{number}: waiting")
    terminal.look()
    terminal.resize(30, 40)
    block.set("0", "0: done")
    assert terminal.lines[-12:] == ["0: done", *(f"{n}: waiting" for n in range(1, 12))]


def test_a_terminal_that_became_narrow_has_a_new_block(terminal: Terminal) -> None:
    block = Rows(Output(terminal.slave))
    block.set("a", "a: " + "x" * 30)
    block.set("b", "b: short")
    terminal.look()
    terminal.resize(10, 20)
    block.set("b", "b: done")
    block.set("b", "b: done again")
    assert terminal.lines[-2:] == ["a: " + "x" * 17, "b: done again"]


def test_a_terminal_of_one_line_is_survived(terminal: Terminal) -> None:
    terminal.resize(1, 40)
    block = Rows(Output(terminal.slave))
    for number in range(3):
        block.set(str(number), f"{number}: waiting")
    block.end()
    assert terminal.lines == ["0: waiting", "1: waiting", "2: waiting"]


def test_text_is_cut_by_what_it_takes_on_the_terminal() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "abc"
    assert cut("漢字", 3) == "漢"
