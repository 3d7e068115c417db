"""Moments in queries: seconds since the epoch, with a fraction.

Source: moby daemon/internal/timestamp/timestamp.go.
"""

from __future__ import annotations

import re

from sampan.errors import InvalidArgument

_NUMBER = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,9})[0-9]*)?\Z")
NANOSECONDS = 10**9


def parse_moment(text: str, name: str) -> int | None:
    """Return nanoseconds since the epoch; None for "" ; raises InvalidArgument."""
    if not text:
        return None
    match = _NUMBER.match(text)
    if match is None:
        raise InvalidArgument(
            f'invalid value for "{name}": strconv.ParseInt: parsing "{text}": invalid syntax'
        )
    fraction = int((match[2] or "").ljust(9, "0") or 0)
    return int(match[1]) * NANOSECONDS + fraction
