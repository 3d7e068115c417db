"""Modes of files as --chmod says them: octal, or in letters as chmod(1) takes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sampan.errors import InvalidArgument

Mode = Callable[[int, bool], int]  # (mode of a file, whether it is a folder) → new mode

_OCTAL: Final = re.compile(r"[0-7]+")
_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION: Final = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}


def mode_of(text: str) -> Mode:
    """Return how --chmod changes modes. Raises InvalidArgument for what it cannot mean."""
    if _OCTAL.fullmatch(text) and len(text) < 20 and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda mode, is_folder: fixed
    clauses = [_CLAUSE.fullmatch(part) for part in text.split(",")]
    if not all(clauses):
        raise InvalidArgument(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        )
    actions = [
        (clause[1] or "a", *action)
        for clause in clauses
        if clause
        for action in _ACTION.findall(clause[2])
    ]

    def change(mode: int, is_folder: bool) -> int:
        for who, operator, letters in actions:
            mode = _changed(mode, is_folder, who, operator, letters)
        return mode

    return change


def _changed(mode: int, is_folder: bool, who: str, operator: str, letters: str) -> int:
    classes = set("ugo" if "a" in who else who)
    if letters in _SHIFTS:  # as another class has it
        bits = mode >> _SHIFTS[letters] & 7
    else:
        executable = "x" in letters or ("X" in letters and (is_folder or mode & 0o111))
        bits = 4 * ("r" in letters) + 2 * ("w" in letters) + bool(executable)
    wanted = sum(bits << _SHIFTS[one] for one in classes)
    mask = sum(7 << _SHIFTS[one] for one in classes)
    if "s" in letters:
        wanted |= 0o4000 * ("u" in classes) | 0o2000 * ("g" in classes)
    if "t" in letters:
        wanted |= 0o1000
    if operator == "+":
        return mode | wanted
    if operator == "-":
        return mode & ~wanted
    return mode & ~mask | wanted
