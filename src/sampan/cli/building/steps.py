"""The steps of a build as its progress tells them: names, times, output.

Source: buildkit client/graph.go (documents), util/progress/progressui (what is shown of them).
"""

from __future__ import annotations

from sampan.cli.display import harmless
from sampan.cli.display.units import human_size, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

KEPT_LINES = 1000  # of the output of a step, for the end of a build that fails


class Step:
    """One thing that a build does."""

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, harmless.line(name)
        self.started = self.completed = 0.0  # seconds since 1970 by the daemon's clock; 0 is never
        self.cached = False
        self.error = ""
        self.lines: list[str] = []  # of its output, each with the time at which it came
        self.transfers: dict[str, str] = {}  # what is said of each, by name
        self._rest = b""
        self._came = 0.0

    @property
    def state(self) -> str:
        """What it came to: DONE, CACHED, ERROR; "" while it runs."""
        if not self.completed:
            return ""
        return "ERROR" if self.error else "CACHED" if self.cached else "DONE"

    def seconds(self, now: float) -> float:
        """Return how long it took, or has taken until now."""
        return max((self.completed or now) - self.started, 0.0) if self.started else 0.0

    def take(self, data: bytes, moment: float) -> list[str]:
        """Take output; return the lines that are complete now."""
        self._came = moment
        *whole, self._rest = (self._rest + data).split(b"\n")
        return self._add(whole)

    def end_output(self) -> list[str]:
        """Return the last line, if it has no end."""
        rest, self._rest = self._rest, b""
        return self._add([rest]) if rest else []

    def _add(self, raw: list[bytes]) -> list[str]:
        after = max(self._came - self.started, 0.0)
        found = []
        for one in raw:
            text = one.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
            found.append(f"{after:.3f} {harmless.line(text)}")
        self.lines = (self.lines + found)[-KEPT_LINES:]
        return found


class Steps:
    """All steps of one build, in the order of their arrival; and its warnings."""

    def __init__(self) -> None:
        self.by_digest: dict[str, Step] = {}
        self.warnings: list[str] = []
        self.now = 0.0  # the latest time of the daemon's clock

    def __iter__(self) -> Any:
        return iter(self.by_digest.values())

    @property
    def completed(self) -> int:
        """How many have ended."""
        return sum(bool(step.completed) for step in self)

    @property
    def failed(self) -> Step | None:
        """The first that failed by itself."""
        errors = [step for step in self if step.error and step.error != "context canceled"]
        return errors[0] if errors else None

    def take(self, document: Document, show: Any) -> None:
        """Take a document; `show` hears of begun and completed steps, of lines and transfers."""
        for one in _objects(document, "vertexes"):
            self._vertex(one, show)
        for one in _objects(document, "statuses"):
            step = self.by_digest.get(str(one.get("vertex")))
            if step is not None:
                text = _transfer(one)
                step.transfers[str(one.get("id"))] = text
                if one.get("completed"):
                    show.transfer(step, text)
        for one in _objects(document, "logs"):
            step = self.by_digest.get(str(one.get("vertex")))
            if step is not None:
                moment = self._time(one.get("timestamp"))
                for line in step.take(_bytes(one.get("data")), moment):
                    show.line(step, line)
        for one in _objects(document, "warnings"):
            self.warnings.append(harmless.line(_bytes(one.get("short")).decode("utf-8", "replace")))

    def _vertex(self, one: Document, show: Any) -> None:
        digest = str(one.get("digest"))
        step = self.by_digest.get(digest)
        if step is None:
            step = Step(len(self.by_digest) + 1, str(one.get("name", "")))
            self.by_digest[digest] = step
        begins = not step.started and one.get("started")
        step.started = step.started or self._time(one.get("started"))
        if begins:
            show.begin(step)
        step.cached = step.cached or bool(one.get("cached"))
        if one.get("completed") and not step.completed:
            step.error = harmless.lines(str(one.get("error") or ""))
            for line in step.end_output():
                show.line(step, line)
            step.completed = self._time(one.get("completed"))
            show.end(step)

    def _time(self, text: Any) -> float:
        moment = parse_time(text) if isinstance(text, str) else None
        if moment is not None:
            self.now = max(self.now, moment)
        return moment or 0.0


def _objects(document: Document, name: str) -> list[Document]:
    found = document.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _bytes(text: Any) -> bytes:
    from binascii import Error, a2b_base64

    try:
        return a2b_base64(str(text or ""))
    except (Error, ValueError):
        return b""


def _transfer(one: Document) -> str:
    """Return how far something is: `NAME 1.2MB / 3MB`, in the end with the time that it took."""
    name = harmless.line(str(one.get("id") or ""))
    current, total = one.get("current"), one.get("total")
    text = name
    if isinstance(current, int) and current > 0:
        text += f" {human_size(current)}"
        if isinstance(total, int) and total > 0:
            text += f" / {human_size(total)}"
    return f"{text} done" if one.get("completed") else text
