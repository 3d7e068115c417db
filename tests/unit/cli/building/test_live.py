"""The progress of a build on a terminal, as the terminal shows it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyte
import pytest

from sampan.cli.building import live
from sampan.cli.building.live import Live
from sampan.cli.display.output import Output
from tests.unit.cli.building.test_steps import STORY, Document, log, transfer, vertex


@dataclass
class Terminal:
    """A pseudo-terminal, and what is to be seen on it."""

    lines: int
    columns: int
    ours: int = -1
    theirs: int = -1
    screen: Any = field(init=False)

    def __enter__(self) -> Terminal:
        self.ours, self.theirs = pty.openpty()
        size = struct.pack("HHHH", self.lines, self.columns, 0, 0)
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, size)
        os.set_blocking(self.ours, False)
        self.screen = pyte.HistoryScreen(self.columns, self.lines, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.ours)
        os.close(self.theirs)

    @property
    def shown(self) -> list[str]:
        """What is on the screen, without empty lines at the end."""
        while True:
            try:
                self._stream.feed(os.read(self.ours, 1 << 16))
            except BlockingIOError:
                break
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def scrolled(self) -> list[str]:
        """What has left the screen at its top."""
        rows = self.screen.history.top
        return ["".join(row[at].data for at in range(self.columns)).rstrip() for row in rows]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    now = [100.0]

    def monotonic() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr(live.time, "monotonic", monotonic)
    return None


def told(terminal: Terminal, *documents: Document) -> Live:
    printer = Live(Output(terminal.theirs))
    for document in documents:
        printer.take(document)
    printer.tick()
    return printer


def test_running_steps_show_their_times_and_their_last_lines() -> None:
    with Terminal(24, 60) as terminal:
        printer = told(terminal, *STORY[:-2])
        assert terminal.shown == [
            "[+] Building 4.0s (1/3)",
            " => [internal] load build context                       0.5s",
            " => => transferring context: 2.048kB done",
            " => [1/3] RUN one                                       2.0s",
            " => => # first",
            " => => # second",
            " => [2/3] RUN two                                       1.0s",
            " => => # other",
        ]
        for document in STORY[-2:]:
            printer.take(document)
        printer.close()
        assert terminal.shown == [
            "[+] Building 5.0s (3/3) FINISHED",
            " => [internal] load build context                       0.5s",
            " => => transferring context: 2.048kB done",
            " => [1/3] RUN one                                       2.0s",
            " => CACHED [2/3] RUN two                                2.0s",
        ]


def test_more_steps_than_lines_are_all_there_in_the_end() -> None:
    with Terminal(8, 40) as terminal:
        steps = [vertex(f"v{one}", f"step {one}", 1, 2) for one in range(20)]
        printer = told(terminal, *steps, vertex("last", "running", 2))
        assert terminal.shown[0] == "[+] Building 22.0s (20/21)"
        assert terminal.shown[-1].startswith(" => running")
        assert len(terminal.shown) == 7
        assert terminal.scrolled == []
        printer.take(vertex("last", "running", 2, 3))
        printer.close()
        shown = terminal.shown
        everything = [*terminal.scrolled, *shown]
        assert [line.split()[1:3] for line in everything if "step" in line] == [
            ["step", str(one)] for one in range(20)
        ]


def test_long_names_and_wide_letters_take_one_line() -> None:
    with Terminal(24, 30) as terminal:
        told(terminal, vertex("a", "RUN " + "x" * 100, 1), vertex("b", "RUN " + "船" * 40, 1),
             log("b", b"y" * 200 + b"\n", 2), transfer("b", "z" * 90, 5, 10))  # fmt: skip
        shown = terminal.shown
        assert len(shown) == 5
        assert all(len(line) <= 30 for line in shown)
        assert shown[1].endswith("s")


def test_a_failure_is_marked_and_what_was_stopped_too() -> None:
    with Terminal(24, 60) as terminal:
        failing = vertex("a", "RUN false", 1, 3, error="exit code: 1")
        printer = told(terminal, vertex("a", "RUN false", 1), log("a", b"why\n", 2),
                       vertex("b", "RUN sleep", 1), failing)  # fmt: skip
        printer.close()
        assert terminal.shown[0].endswith("(1/2) ERROR")
        assert terminal.shown[1].startswith(" => ERROR RUN false")
        assert terminal.shown[2].startswith(" => CANCELED RUN sleep")
        assert terminal.shown[3:] == ["------", " > RUN false:", "1.000 why", "------"]


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in (True, False):
        if not wanted:
            monkeypatch.setenv("NO_COLOR", "1")
        with Terminal(24, 60) as terminal:
            told(terminal, vertex("a", "RUN x", 1))
            assert terminal.shown[1].startswith(" => RUN x")
            colours = {terminal.screen.buffer[1][at].fg for at in range(10)}
            assert colours == ({"blue"} if wanted else {"default"})
