"""Names of signals, as users write them. Source: moby/sys/signal."""

from __future__ import annotations

import signal
from typing import Final

from sampan.errors import InvalidArgument

HIGHEST: Final = 64
NUMBERS: Final = {
    each.name.removeprefix("SIG"): each.value
    for each in signal.Signals
    if not each.name.startswith("SIGRT")
} | {"CLD": signal.SIGCHLD.value, "IOT": signal.SIGABRT.value, "POLL": signal.SIGIO.value}


def parse_signal(text: str) -> int:
    """Return the number of "KILL", "sigkill", "9" or "RTMIN+3"; raises InvalidArgument."""
    if text.isascii() and text.isdecimal():
        number = int(text) if len(text) < 10 else HIGHEST + 1
        if number > HIGHEST:
            raise InvalidArgument(f"the linux daemon does not support signal {text[:20]}")
    else:
        name = text.upper().removeprefix("SIG")
        number = NUMBERS.get(name, 0) or _real_time(name)
    if not number:
        raise InvalidArgument(f"invalid signal: {text}")
    return number


def _real_time(name: str) -> int:
    for base, sign, start in (("RTMIN", "+", 34), ("RTMAX", "-", HIGHEST)):
        if name == base:
            return start
        digits = name.removeprefix(base + sign)
        if digits != name and digits.isascii() and digits.isdecimal() and len(digits) < 3:
            number = start + int(sign + digits)
            return number if 34 <= number <= HIGHEST else 0
    return 0
