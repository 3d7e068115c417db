"""Durations as Go writes them: 1h30m, 1.5s, 300ms."""

from __future__ import annotations

import re
from typing import Final

_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.]*)")
_UNITS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9,
    "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_LONGEST: Final = 1 << 63  # nanoseconds
_LETTERS: Final = 64


def parse_duration(text: str) -> int:
    """Return nanoseconds; raises ValueError in Go's words. Source: Go time.ParseDuration."""
    plain = text[1:] if text[:1] in ("+", "-") else text
    if plain == "0":
        return 0
    at, total = 0, 0
    while len(text) <= _LETTERS and (match := _PART.match(plain, at)):
        if not match[2]:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if match[2] not in _UNITS:
            raise ValueError(f'time: unknown unit "{match[2]}" in duration "{text}"')
        whole, _, fraction = match[1].partition(".")
        unit = _UNITS[match[2]]
        total += int(whole or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        at = match.end()
    if not plain or at != len(plain) or total >= _LONGEST:
        raise ValueError(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def format_duration(nanoseconds: int) -> str:
    """Return a duration as Go prints it: 0s, 1.5ms, 1m30s, 2h0m0s."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if 0 < nanoseconds < 10**9:
        name = next(name for name in ("ms", "µs", "ns") if nanoseconds >= _UNITS[name])
        return f"{_decimal(nanoseconds, _UNITS[name])}{name}"
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(number: int, unit: int) -> str:
    """Return a number of units, with as many digits as it takes."""
    whole, rest = divmod(number, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}" if unit > 1 else ""
    return f"{whole}.{digits}".rstrip("0").rstrip(".") if rest else str(whole)
