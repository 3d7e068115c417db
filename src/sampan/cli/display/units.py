"""Sizes and times in words, as docker/go-units writes them."""

from __future__ import annotations

DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
MINUTE, HOUR, DAY = 60, 3600, 86400


def human_size(size: float, digits: int = 4) -> str:
    """Format a number of bytes in powers of 1000: 4.87MB."""
    return _size(size, 1000, DECIMAL, digits)


def binary_size(size: float) -> str:
    """Format a number of bytes in powers of 1024: 7.746GiB."""
    return _size(size, 1024, BINARY, 4)


def _size(size: float, base: int, units: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{general(size, digits)}{units[index]}"


def general(number: float, digits: int) -> str:
    """Format a number as Go's %.4g does; Python's differs in nothing but the exponent's case."""
    return f"{number:.{digits}g}"


def human_duration(seconds: float) -> str:
    """Format a duration roughly: About a minute, 4 hours."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 2:
        return "1 second"
    if seconds < MINUTE:
        return f"{int(seconds)} seconds"
    minutes = int(seconds // MINUTE)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if hours < 24 * 7 * 2:
        return f"{days} days"
    if hours < 24 * 30 * 2:
        return f"{days // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{days // 30} months"
    return f"{int(seconds / HOUR) // 24 // 365} years"


def local_time(seconds: float) -> str:
    """Format a time as Go prints one: 2024-05-06 07:08:09 +0000 UTC."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def parse_time(text: str) -> float | None:
    """Return the seconds since 1970 of an RFC 3339 time with any number of digits; None if not."""
    from datetime import datetime

    main, zone = text, ""
    if main.endswith("Z"):
        main, zone = main[:-1], "+00:00"
    elif len(main) > 6 and main[-6] in "+-":
        main, zone = main[:-6], main[-6:]
    whole, _, fraction = main.partition(".")
    try:
        moment = datetime.fromisoformat(f"{whole}{zone or '+00:00'}")
        return moment.timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        return None
