"""Progress messages of pull, load, import and the like: lines, or redrawn on a terminal."""

from __future__ import annotations

from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from sampan.cli.output import Output

BAR = 50  # characters


def show(messages: Iterable[dict[str, Any]], output: Output | None) -> list[dict[str, Any]]:
    """Print messages as they come (nowhere: None) and return those of `aux`.

    Raises Internal with the daemon's sentence if a message is an error.
    """
    auxiliary: list[dict[str, Any]] = []
    rows: dict[str, int] = {}
    terminal = output is not None and output.is_terminal()
    for message in messages:
        error = (message.get("errorDetail") or {}).get("message") or message.get("error")
        if error:
            raise Internal(str(error))
        if message.get("aux"):
            auxiliary.append(message["aux"])
        if output is None:
            continue
        if terminal and message.get("id") and "stream" not in message:
            _redraw(output, rows, message)
        else:
            _line(output, message)
        output.flush()
    return auxiliary


def _line(output: Output, message: dict[str, Any]) -> None:
    if "stream" in message:
        output.write(str(message["stream"]))
        return
    if message.get("progressDetail") and message["progressDetail"].get("total"):
        return  # half-way marks are for terminals
    name = f"{message['id']}: " if message.get("id") else ""
    if message.get("status"):
        output.line(f"{name}{message['status']}")


def _redraw(output: Output, rows: dict[str, int], message: dict[str, Any]) -> None:
    name = str(message["id"])
    if name not in rows:
        rows[name] = len(rows)
        output.write("\n")
    up = len(rows) - rows[name]
    text = f"{name}: {message.get('status', '')} {bar(message.get('progressDetail') or {})}"
    output.write(f"\x1b[{up}A\r\x1b[2K{text.rstrip()}\x1b[{up}B\r")


def bar(detail: dict[str, Any]) -> str:
    """Format `current` of `total`: `[====>   ]  1.2MB/3.4MB`; nothing without a current value."""
    from sampan.cli.units import human_size

    current, total = detail.get("current") or 0, detail.get("total") or 0
    if current <= 0:
        return ""
    if total <= 0 or current > total:
        return f"{human_size(current):>8}"
    done = BAR * current // total
    arrow = ("=" * done + ">")[:BAR]
    return f"[{arrow:<{BAR}}] {human_size(current):>8}/{human_size(total)}"
