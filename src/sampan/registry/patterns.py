"""Patterns for names of repositories and tags: `*` within a part, `**` across `/`, `?` one letter.

Clients choose the names, so a match takes time in proportion to the name, whatever the pattern.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from sampan.errors import InvalidArgument
from sampan.registry.expressions import Expression, expression

LIMIT = 255
_TOKEN = re.compile(r"\*\*|.", re.DOTALL)
_ALLOWED = re.compile(r"[A-Za-z0-9._/@*?$:-]+")
_MEANING = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
REMEMBERED = 1000


class Pattern:
    """A pattern that is ready to be compared."""

    def __init__(self, text: str) -> None:
        if len(text) > LIMIT or not _ALLOWED.fullmatch(text):
            raise InvalidArgument(f"{text[:LIMIT]!r} is no pattern for names")
        self.text = text
        self._is_literal = not any(mark in text for mark in "*?")

    def matches(self, name: str) -> bool:
        """Tell whether the whole name is as the pattern says."""
        if self._is_literal:
            return name == self.text
        return _expression(self.text).search(name) is not None


@functools.lru_cache(maxsize=REMEMBERED)
def _expression(text: str) -> Expression:
    """Return a pattern as RE2 has it. One with the name of a user in it is made many times."""
    parts = (_MEANING.get(token) or re.escape(token) for token in _TOKEN.findall(text))
    return expression(rf"(?s)\A{''.join(parts)}\z")


def any_matches(patterns: Sequence[Pattern], name: str) -> bool:
    """Tell whether one of the patterns is that of a name."""
    return any(pattern.matches(name) for pattern in patterns)
