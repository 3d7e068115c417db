"""Names and numbers of signals, as Docker's clients write them."""

from __future__ import annotations

import re
import signal

from sampan.errors import InvalidArgument

_NAMES = {each.name.removeprefix("SIG"): int(each) for each in signal.Signals}
_REALTIME = re.compile(r"RT(MIN|MAX)(?:([+-])(\d{1,2}))?")
LAST_SIGNAL = 64


def parse_signal(text: str) -> int:
    """Return the number of "KILL", "SIGKILL", "9" or "SIGRTMIN+3"; InvalidArgument for others."""
    if text.isascii() and text.isdigit():
        number = int(text)
        if 0 < number <= LAST_SIGNAL:
            return number
        raise InvalidArgument(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    if name in _NAMES:
        return _NAMES[name]
    if match := _REALTIME.fullmatch(name):
        base = int(signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX)
        number = base + int(f"{match[2] or '+'}{match[3] or 0}")
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    raise InvalidArgument(f"invalid signal: {text}")
