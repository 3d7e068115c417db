"""Patterns for names of repositories and tags: `*` within a part, `**` across `/`, `?` one letter.

Clients choose the names, so a match takes time in proportion to the name, whatever the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sampan.errors import InvalidArgument

LIMIT = 255
_TOKEN = re.compile(r"\*\*|.", re.DOTALL)
_ALLOWED = re.compile(r"[A-Za-z0-9._/@*?$:-]+")
ACROSS, WITHIN, ONE = "**", "*", "?"


class Pattern:
    """A pattern that is ready to be compared."""

    def __init__(self, text: str) -> None:
        if len(text) > LIMIT or not _ALLOWED.fullmatch(text):
            raise InvalidArgument(f"{text[:LIMIT]!r} is no pattern for names")
        self.text = text
        self._tokens: Sequence[str] = _TOKEN.findall(text)
        self._literal = not any(token in (ACROSS, WITHIN, ONE) for token in self._tokens)

    def matches(self, name: str) -> bool:
        """Tell whether the whole name is as the pattern says."""
        if self._literal:
            return name == self.text
        places = self._skip({0})
        for letter in name:
            places = self._skip({after for at in places for after in self._step(at, letter)})
            if not places:
                return False
        return len(self._tokens) in places

    def _step(self, at: int, letter: str) -> Sequence[int]:
        """Return the places where one may be after a letter."""
        if at == len(self._tokens):
            return ()
        token = self._tokens[at]
        if token == ACROSS or (token == WITHIN and letter != "/"):
            return (at,)
        if token == letter or (token == ONE and letter != "/"):
            return (at + 1,)
        return ()

    def _skip(self, places: set[int]) -> set[int]:
        """Add the places that need no letter, because stars may stand for nothing."""
        found = set(places)
        for at in places:
            while at < len(self._tokens) and self._tokens[at] in (ACROSS, WITHIN):
                at += 1
                found.add(at)
        return found


def any_matches(patterns: Sequence[Pattern], name: str) -> bool:
    """Tell whether one of the patterns is that of a name."""
    return any(pattern.matches(name) for pattern in patterns)
