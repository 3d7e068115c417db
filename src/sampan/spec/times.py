"""Points in time as clients write them: seconds, RFC 3339, or a duration before now."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from datetime import datetime

from sampan.errors import InvalidArgument
from sampan.spec.durations import parse_duration

_SECONDS = re.compile(r"(-?[0-9]{1,18})(?:\.([0-9]{1,9})[0-9]*)?")


def parse_time(text: str, now: int | None = None) -> int:
    """Return nanoseconds since the epoch of "1700000000.5", "2024-01-31T10:00:00Z" or "10m".

    Dates without a zone are of the zone of this machine. `now` is what durations count from; the
    clock, if it is not given. Raises InvalidArgument. Source: moby api/types/time/timestamp.go.
    """
    if match := _SECONDS.fullmatch(text):
        return int(match[1]) * 10**9 + int((match[2] or "0").ljust(9, "0"))
    with suppress(ValueError):
        ago = parse_duration(text)
        return (time.time_ns() if now is None else now) - ago
    try:
        # Dates may be out of a clock's range: those without a zone are in the year 1.
        return int(datetime.fromisoformat(text).timestamp() * 10**6) * 1000
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from error
