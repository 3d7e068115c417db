"""/etc/subuid and /etc/subgid: which ranges of ids belong to whom. Source: subuid(5)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

SUBUID: Final = Path("/etc/subuid")
SUBGID: Final = Path("/etc/subgid")

Range = tuple[int, int]  # first id, how many


def ranges(file: Path, owners: Collection[str] = ()) -> list[Range]:
    """Return the ranges of owners (names or ids), or those of everybody; [] without the file.

    Lines that make no sense are passed over, as the tools of shadow do.
    """
    return [(first, count) for owner, first, count in _lines(file) if not owners or owner in owners]


def _lines(file: Path) -> Iterator[tuple[str, int, int]]:
    try:
        text = file.read_text("utf-8", "replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] and fields[1].isdecimal() and fields[2].isdecimal():
            first, count = int(fields[1]), int(fields[2])
            if count and first + count <= 1 << 32:
                yield fields[0], first, count


def common(one: list[Range], other: list[Range]) -> list[Range]:
    """Return the ids that are in both lists, as ranges in ascending order."""
    found = []
    for first, count in one:
        for begin, length in other:
            start, end = max(first, begin), min(first + count, begin + length)
            if start < end:
                found.append((start, end - start))
    return sorted(set(found))


def without(given: list[Range], taken: list[Range]) -> list[Range]:
    """Return what is left of ranges when the ids of others are taken out."""
    left = sorted(given)
    for first, count in taken:
        parts = []
        for begin, length in left:
            end = begin + length
            if begin < min(first, end):
                parts.append((begin, min(first, end) - begin))
            if max(first + count, begin) < end:
                start = max(first + count, begin)
                parts.append((start, end - start))
        left = parts
    return left
