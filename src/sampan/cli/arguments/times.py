"""Times on the command line: ages and dates become the API's seconds since 1970.

Source: moby api/types/time GetTimestamp.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument


def timestamp(text: str, name: str) -> str:
    """Return seconds with a fraction for an age (`42m`), a date, or seconds; empty stays empty.

    Raises InvalidArgument; `name` says which option it was.
    """
    if text in ("", "0"):
        return text
    from sampan.cli.arguments.values import duration

    try:
        age = duration(text)
    except ValueError:
        return _date(text, name)
    import time

    moment = time.time_ns() - age
    return f"{moment // 10**9}.{moment % 10**9:09d}"


def _date(text: str, name: str) -> str:
    whole, _, fraction = text.partition(".")
    if whole.isascii() and whole.isdigit() and (not fraction or fraction.isdigit()):
        return text
    from sampan.cli.display.units import parse_time

    seconds = parse_time(_complete(text))
    if seconds is None:
        raise InvalidArgument(
            f'invalid value for "{name}": failed to parse value as time or duration: "{text}"'
        )
    return f"{seconds:.9f}"


def _complete(text: str) -> str:
    """Give a date its time, and a time without a zone the local one."""
    if "T" not in text:
        return _complete(f"{text}T00:00:00")
    date, _, clock = text.partition("T")
    if clock.endswith("Z") or "+" in clock or "-" in clock:
        return text
    clock += ":00" * (2 - clock.count(":"))
    import time

    zone = time.strftime("%z")
    return f"{date}T{clock}{zone[:3]}:{zone[3:]}"
