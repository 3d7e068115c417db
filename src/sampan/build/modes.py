"""Modes of files as --chmod says them: octal, or in letters as chmod(1) takes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sampan.errors import InvalidArgument

Mode = Callable[[int, bool], int]  # (mode of a file, whether it is a folder) → new mode

_OCTAL: Final = re.compile(r"[0-7]{1,5}")
_CLAUSE: Final = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}


def mode_of(text: str) -> Mode:
    """Return how --chmod changes modes. Raises InvalidArgument for what it cannot mean."""
    if _OCTAL.fullmatch(text) and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda mode, is_folder: fixed
    clauses = [_CLAUSE.fullmatch(part) for part in text.split(",")]
    if not all(clauses):
        raise InvalidArgument(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        )

    def change(mode: int, is_folder: bool) -> int:
        for clause in clauses:
            if clause:
                mode = _changed(mode, is_folder, clause[1] or "a", clause[2], clause[3])
        return mode

    return change


def _changed(mode: int, is_folder: bool, who: str, operator: str, letters: str) -> int:
    classes = "ugo" if "a" in who else who
    executable = "x" in letters or ("X" in letters and (is_folder or mode & 0o111))
    bits = 4 * ("r" in letters) + 2 * ("w" in letters) + bool(executable)
    wanted = sum(bits << _SHIFTS[one] for one in set(classes))
    mask = sum(7 << _SHIFTS[one] for one in set(classes))
    if "s" in letters:
        wanted |= 0o4000 * ("u" in classes) | 0o2000 * ("g" in classes)
    if "t" in letters:
        wanted |= 0o1000
    if operator == "+":
        return mode | wanted
    if operator == "-":
        return mode & ~wanted
    return mode & ~mask | wanted
