"""The progress of a build on a terminal: all steps with their times, redrawn in place.

What runs shows its last lines. Of more steps than the terminal has lines, those that have ended
first are left out while the build runs; in the end all are there.

Source: buildkit util/progress/progressui/display.go (what is shown, and how).
"""

from __future__ import annotations

import time

from sampan.cli.building.plain import conclude
from sampan.cli.building.steps import Step, Steps
from sampan.cli.display.output import Styled
from sampan.cli.display.rows import NO_SIZE, cut
from sampan.cli.display.tabwriter import display_width
from sampan.cli.display.terminal import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.building.steps import Document
    from sampan.cli.display.output import Output

TICK = 0.1  # seconds between two drawings
TAIL = 6  # last lines of a step that runs
_BLUE, _RED, _FAINT, _PLAIN = "\x1b[34m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


class Live:
    """Draws what happens."""

    def __init__(self, output: Output, environment: object = None) -> None:
        import os

        self._output, self.steps = output, Steps()
        self._began = time.monotonic()
        self._arrived: dict[int, float] = {}  # by number of the step: when we heard of it
        self._drawn = 0  # lines
        self._drawn_at = 0.0
        self._colour = "NO_COLOR" not in os.environ

    def take(self, document: Document) -> None:
        """Take in what a document tells; `tick` draws it."""
        self.steps.take(document, self)

    def begin(self, step: Step) -> None:
        """Note when a step has begun."""
        self._arrived[step.number] = time.monotonic()

    def line(self, step: Step, line: str) -> None:
        """Nothing: the step has its lines."""

    def transfer(self, step: Step, text: str) -> None:
        """Nothing: the step has its transfers."""

    def end(self, step: Step) -> None:
        """Nothing: the step knows."""

    def tick(self) -> None:
        """Draw, if it is time."""
        now = time.monotonic()
        if now - self._drawn_at >= TICK:
            self._draw(now, final=False)

    def close(self) -> None:
        """Draw everything for the last time, and what follows a build."""
        self._draw(time.monotonic(), final=True)
        conclude(self._output, self.steps)

    def _draw(self, now: float, *, final: bool) -> None:
        height, width = size_of(self._output.descriptor)
        height, width = height or NO_SIZE[0], width or NO_SIZE[1]
        self._drawn_at = now
        lines = [self._heading(now, final=final)]
        rows = [self._rows(step, now, final=final) for step in self.steps]
        if not final:
            rows = _fitting(rows, list(self.steps), height - 2)
        lines += [line for row in rows for line in row]
        shown = "".join(f"{self._cut(line, width)}\x1b[K\r\n" for line in lines)
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._output.write(Styled(f"\x1b[?25l{up}\r{shown}\x1b[J\x1b[?25h"))
        self._output.flush()
        self._drawn = len(lines)

    def _heading(self, now: float, *, final: bool) -> str:
        done, count = self.steps.completed, len(self.steps.by_digest)
        state = "" if not final else " ERROR" if self.steps.failed else " FINISHED"
        return f"[+] Building {now - self._began:.1f}s ({done}/{count}){state}"

    def _rows(self, step: Step, now: float, *, final: bool) -> list[str]:
        begun = self._arrived.get(step.number)
        running = now - begun if begun is not None else 0.0
        seconds = step.seconds(0) if step.completed else running
        state = step.state if step.state in ("CACHED", "ERROR") else ""
        if not step.completed and final:
            state = "CANCELED"
        text = f" => {state} {step.name}" if state else f" => {step.name}"
        rows = [f"{text}\0{seconds:.1f}s\0{state}"]
        rows += [f" => => {one}\0" for one in step.transfers.values()]
        if not step.completed and not final:
            rows += [f" => => # {line.partition(' ')[2]}\0" for line in step.lines[-TAIL:]]
        return rows

    def _cut(self, line: str, width: int) -> str:
        """Return a line that is as wide as the terminal, its time at the right, in its colour."""
        text, mark, rest = line.partition("\0")
        if not mark:
            return cut(text, width)
        clock, _, state = rest.partition("\0")
        room = max(width - display_width(clock) - 1, 1)
        if clock:
            text = cut(text, room)
            text += " " * (room - display_width(text)) + f" {clock}"
            text = cut(text, width)
        else:
            text = cut(text, width)
        if not self._colour:
            return text
        colour = {"ERROR": _RED, "CANCELED": _RED}.get(state, _BLUE if clock else _FAINT)
        return f"{colour}{text}{_PLAIN}"


def _fitting(rows: list[list[str]], steps: list[Step], room: int) -> list[list[str]]:
    """Return as many rows as there is room for: steps that have ended go first, oldest first."""
    count = sum(map(len, rows))
    kept = []
    for row, step in zip(rows, steps, strict=True):
        if count > room and step.completed:
            count -= len(row)
            continue
        kept.append(row)
    while kept and sum(map(len, kept)) > max(room, 1):
        longest = max(kept, key=len)
        if len(longest) == 1:
            kept.pop(0)
        else:
            longest.pop(1)
    return kept
