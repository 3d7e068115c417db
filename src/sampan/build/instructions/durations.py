"""Times of health checks."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.spec.durations import parse_duration


def duration(text: str) -> int:
    """Return nanoseconds; InvalidArgument in Go's words for what is no duration."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def check_interval(name: str, nanoseconds: int) -> int:
    """Return the time of a health check; InvalidArgument if it is too short."""
    if nanoseconds and nanoseconds < 10**6:
        raise InvalidArgument(f'Interval "{name}" cannot be less than 1ms')
    return nanoseconds
