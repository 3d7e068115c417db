"""What somebody may have meant who wrote a word that there is not.

Source: buildkit util/suggest (words that fewer than three changes of a letter make).
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

_FAR: Final = 3  # changes
_LONGEST: Final = 64  # letters; more are no slip of a key


def hint(word: str, known: Iterable[str], sign: str = "", *, exact_case: bool = False) -> str:
    """Return " (did you mean …?)", or "" if no known word is near.

    Capitals do not count, unless with `exact_case`; `sign` stands before the word.
    """
    given = word if exact_case else word.upper()
    if len(given) > _LONGEST:
        return ""
    near = [(changes(given, one if exact_case else one.upper()), one) for one in known]
    least = min((count for count, _ in near), default=_FAR)
    if not 0 < least < _FAR:
        return ""
    among = [one for count, one in near if count == least]
    best = max(among, key=lambda one: SequenceMatcher(None, given, one.upper()).ratio())
    return f" (did you mean {sign}{best}?)"


def changes(one: str, other: str) -> int:
    """Return how many letters are added, removed or replaced between two words (Levenshtein)."""
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        above, row = row, [at]
        for place, wanted in enumerate(other, 1):
            row.append(min(above[place] + 1, row[-1] + 1, above[place - 1] + (letter != wanted)))
    return row[-1]
