"""Filters of image lists and prunes.

Source: moby api/types/filters, daemon/images/image_list.go.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sampan.errors import InvalidArgument
from sampan.spec.booleans import FALSE, TRUE
from sampan.spec.times import parse_time

Filters = Mapping[str, Sequence[str]]

_GO_CLASS: Final = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]")


def check_names(filters: Filters, accepted: Collection[str]) -> None:
    """Raise InvalidArgument for a filter that nobody knows."""
    for name in filters:
        if name not in accepted:
            raise InvalidArgument(f"invalid filter '{name}'")


def boolean(filters: Filters, name: str, default: bool) -> bool:
    """Return a filter that is true or false."""
    values = set(filters.get(name, ()))
    if not values:
        return default
    if values <= TRUE:
        return True
    if values <= FALSE:
        return False
    raise InvalidArgument(f"invalid filter '{name}=[{' '.join(sorted(values))}]'")


def matches_labels(wanted: Sequence[str], labels: Mapping[str, str] | None) -> bool:
    """Tell whether all of `name` and `name=value` hold."""
    for entry in wanted:
        name, equals, value = entry.partition("=")
        if not labels or name not in labels or (equals and labels[name] != value):
            return False
    return True


def until(value: str, now: int | None = None) -> int:
    """Return a moment (epoch, RFC 3339, or a duration before now) in nanoseconds."""
    try:
        return parse_time(value, now)
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid value for 'until' filter: {error}") from error


def glob(pattern: str) -> re.Pattern[str]:
    """Return Go's path.Match pattern as an expression: `*` and `?` do not match a slash."""
    result, at = "", 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "*":
            result += "[^/]*"
        elif letter == "?":
            result += "[^/]"
        elif letter == "[":
            match = _GO_CLASS.match(pattern, at)
            if match is None:
                raise InvalidArgument("syntax error in pattern")
            result += f"[{match[1]}{_ranges(match[2])}]"
            at = match.end()
            continue
        elif letter == "\\":
            at += 1
            if at >= len(pattern):
                raise InvalidArgument("syntax error in pattern")
            result += re.escape(pattern[at])
        else:
            result += re.escape(letter)
        at += 1
    try:
        return re.compile(result)
    except re.error as error:
        raise InvalidArgument("syntax error in pattern") from error


_RANGE: Final = re.compile(r"(\\?.)(?:-(\\?.))?", re.DOTALL)


def _ranges(content: str) -> str:
    """Return what is between the brackets of a pattern, for an expression."""
    result, at = "", 0
    while match := _RANGE.match(content, at):
        if match[1] == "-":
            raise InvalidArgument("syntax error in pattern")
        low, high = (re.escape(end[-1]) if end else "" for end in (match[1], match[2]))
        result += f"{low}-{high}" if high else low
        at = match.end()
    return result
