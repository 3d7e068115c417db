"""Elastic tab stops: text/tabwriter of Go.

A cell ends with a tab. A column is a run of adjacent lines that have a cell there; it is as wide
as its widest cell and the padding. What stands after the last tab belongs to no column.
"""

from __future__ import annotations


def aligned(text: str, minimum: int = 10, padding: int = 3) -> str:
    """Return the text with its tabs turned into spaces."""
    lines = [line.split("\t") for line in text.split("\n")]
    out: list[str] = []
    _format(lines, 0, len(lines), [], out, minimum, padding)
    return "\n".join(out)


def _format(
    lines: list[list[str]],
    begin: int,
    end: int,
    widths: list[int],
    out: list[str],
    minimum: int,
    padding: int,
) -> None:
    column = len(widths)
    at = begin
    while at < end:
        if column >= len(lines[at]) - 1:
            out.append(_line(lines[at], widths))
            at += 1
            continue
        first, width = at, minimum
        while at < end and column < len(lines[at]) - 1:
            width = max(width, display_width(lines[at][column]) + padding)
            at += 1
        _format(lines, first, at, [*widths, width], out, minimum, padding)


def _line(cells: list[str], widths: list[int]) -> str:
    line = ""
    for at, cell in enumerate(cells):
        line += cell
        if at < len(widths) and at < len(cells) - 1:
            line += " " * (widths[at] - display_width(cell))
    return line


def display_width(text: str) -> int:
    """Return how many columns of a terminal the text takes: wide characters take two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def ellipsis(text: str, most: int) -> str:
    """Cut text to `most` columns; the last one is then an ellipsis."""
    if display_width(text) <= most:
        return text
    width = 0
    for at, character in enumerate(text):
        width += display_width(character)
        if width > most - 1:
            return text[:at] + "…"
    return text
