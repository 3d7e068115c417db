"""Progress messages of pull, push, load, import and the like: lines, or rows on a terminal.

Rules of what is shown and when: moby pkg/jsonmessage. How rows are redrawn is ours
(in `rows`), since docker's way garbles more rows than the terminal has, and resized ones.
"""

from __future__ import annotations

from sampan.cli.display import harmless
from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from sampan.cli.display.output import Output
    from sampan.cli.display.rows import Rows

BAR = 50  # characters
BAR_WIDTH = 110  # terminals up to this width show numbers without a bar
LEFT_WIDTH = 50  # and up to this one no time that is left
NO_TERMINAL = 200
LATEST = 1 << 63  # nanoseconds since 1970 that Go has
MOST = 1 << 63  # of anything that is counted


def show(
    messages: Iterable[dict[str, Any]],
    output: Output | None,
    auxiliary: list[Any] | None = None,
) -> None:
    """Print messages as they come (nowhere: None); what is in `aux` goes to `auxiliary`.

    Raises Internal with the daemon's sentence if a message is an error.
    """
    rows = _rows(output) if output is not None and output.is_terminal() else None
    try:
        for message in messages:
            if not isinstance(message, dict):
                raise Internal("the daemon sent what is no message")
            _raise_error(message)
            if message.get("aux") is not None:
                if auxiliary is not None:
                    auxiliary.append(message["aux"])
            elif output is not None:
                _show_one(message, output, rows)
    finally:
        if rows:
            rows.end()


def _rows(output: Output) -> Rows:
    from sampan.cli.display.rows import Rows

    return Rows(output)


def _raise_error(message: dict[str, Any]) -> None:
    detail = message.get("errorDetail")
    if isinstance(detail, dict):
        raise Internal(str(detail.get("message", "")))
    if message.get("error"):
        raise Internal(str(message["error"]))


def _show_one(message: dict[str, Any], output: Output, rows: Rows | None) -> None:
    detail = message.get("progressDetail")
    given = isinstance(detail, dict)
    words = _words(message)
    if message.get("stream"):
        if rows:
            rows.end()
        output.write(words + harmless.stream(str(message["stream"])))
    elif given and rows:
        shown = f"{words} {progress(detail, rows.width())}"
        name = str(message.get("id") or "")
        if name:
            rows.set(name, shown)
            return
        rows.end()
        output.write(f"\x1b[2K\r{shown}\r".encode("utf-8", "surrogateescape"))
    elif not given or not progress(detail, NO_TERMINAL):
        if rows:
            rows.end()
        output.line(words)
    output.flush()


def _words(message: dict[str, Any]) -> str:
    name, source = message.get("id"), message.get("from")
    text = _time(message)
    text += f"{harmless.line(str(name))}: " if name else ""
    text += f"(from {harmless.line(str(source))}) " if source else ""
    if message.get("stream"):
        return text
    text += harmless.line(str(message.get("status") or ""))
    if message.get("progress") and not isinstance(message.get("progressDetail"), dict):
        text += f" {harmless.line(str(message['progress']))}"
    return text


def _time(message: dict[str, Any]) -> str:
    nanoseconds = _number(message, "timeNano") or _number(message, "time") * 10**9
    if not 0 < nanoseconds < LATEST:
        return ""
    import time

    local = time.localtime(nanoseconds // 10**9)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    return f"{moment}.{nanoseconds % 10**9:09d}{zone} "


def progress(detail: Any, width: int) -> str:
    """Format `current` of `total` for a terminal of this width: `[====>   ]  1.2MB/3.4MB`."""
    current, total, start = (_number(detail, name) for name in ("current", "total", "start"))
    unit = harmless.line(str(detail.get("units") or ""))
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{current} {unit}" if unit else f"{_size(current):>8}"
    half = min(100 * max(current, 0) // total // 2, BAR)
    bar = f"[{'=' * half}>{' ' * (BAR - half)}] " if width > BAR_WIDTH else ""
    counts = "" if detail.get("hidecounts") else _counts(current, total, unit)
    left = ""
    if width > LEFT_WIDTH and current > 0 and start > 0 and half < BAR:
        left = _time_left(current, total, start)
    return bar + counts + left


def _number(detail: Any, name: str) -> int:
    """Return a field that is a whole number, 0 if it is anything else."""
    value = detail.get(name)
    return value if isinstance(value, int) and -MOST < value < MOST else 0


def _counts(current: int, total: int, unit: str) -> str:
    if unit:
        return f"{current} {unit}" if current > total else f"{current}/{total} {unit}"
    text = f"{_size(current):>8}"
    return text if current > total else f"{text}/{_size(total)}"


def _size(value: int) -> str:
    from sampan.cli.display.units import human_size

    return human_size(value)


def _time_left(current: int, total: int, start: int) -> str:
    import time

    seconds = round((time.time() - start) / current * (total - current))
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f" {text}{seconds}s"
