"""Points in time as clients write them: seconds, RFC 3339, or a duration before now."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from sampan.errors import InvalidArgument

_UNITS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3}
_UNITS["ns"] = 1
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")
_SECONDS = re.compile(r"(-?\d+)(?:\.(\d{1,9}))?")


def parse_time(text: str) -> int:
    """Return nanoseconds since the epoch of "1700000000.5", "2024-01-31T10:00:00Z" or "10m".

    Dates without a zone are UTC. Source: moby api/types/time/timestamp.go.
    """
    if match := _SECONDS.fullmatch(text):
        return int(match[1]) * 10**9 + int((match[2] or "0").ljust(9, "0"))
    parts = list(_PART.finditer(text))
    if parts and "".join(part[0] for part in parts) == text:
        ago = sum(float(part[1]) * _UNITS[part[2]] for part in parts)
        return time.time_ns() - int(ago)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 10**6) * 1000
