"""Natural order: numbers inside names count as numbers, so port 80 comes before port 443."""

from __future__ import annotations


def natural_order(text: str) -> list[tuple[int, int, str]]:
    """Return a sorting key."""
    import re

    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]
