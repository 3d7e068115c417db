"""Patterns with wildcards, matched in time linear in the text: no input makes them slow.

A pattern is a row of tokens; all places in it that are possible at once are the bits of one number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Accepts = Callable[[str], bool]


def any_letter(_: str) -> bool:
    """Accept everything."""
    return True


def no_slash(letter: str) -> bool:
    """Accept what may stand in a name of a file."""
    return letter != "/"


def nothing(_: str) -> bool:
    """Accept no letter."""
    return False


@dataclass(frozen=True, slots=True)
class Token:
    """Something that accepts one letter, or with `repeated` any number of them."""

    accepts: Accepts | str
    repeated: bool = False

    def takes(self, letter: str) -> bool:
        """Tell whether this letter may stand here."""
        return self.accepts == letter if isinstance(self.accepts, str) else self.accepts(letter)


# What may be left out begins with this: a way back into a repetition would be a way past it.
GATE = Token(nothing, repeated=True)


class Glob:
    """A compiled pattern."""

    def __init__(self, tokens: Sequence[Token], optional: Sequence[tuple[int, int]] = ()) -> None:
        """`optional`: pairs of places; what lies between them may be left out."""
        self._tokens = tokens
        self._optional = [(1 << start, 1 << end) for start, end in optional]
        self._repeats = sum(1 << at for at, token in enumerate(tokens) if token.repeated)
        self._last = 1 << len(tokens)
        self._masks: dict[str, tuple[int, int]] = {}

    def ends(self, text: str) -> Iterator[int]:
        """Yield every length of the beginning of `text` that the pattern matches."""
        state = self._skip(1)
        if state & self._last:
            yield 0
        for at, letter in enumerate(text, 1):
            single, repeated = self._masks.get(letter) or self._mask(letter)
            state = self._skip((state & single) << 1 | state & repeated)
            if not state:
                return
            if state & self._last:
                yield at

    def matches(self, text: str) -> bool:
        """Tell whether the pattern matches the whole text."""
        return any(end == len(text) for end in self.ends(text))

    def _skip(self, state: int) -> int:
        while True:
            more = state | (state & self._repeats) << 1
            for start, end in self._optional:
                if more & start:
                    more |= end
            if more == state:
                return state
            state = more

    def _mask(self, letter: str) -> tuple[int, int]:
        single = repeated = 0
        for at, token in enumerate(self._tokens):
            if token.takes(letter):
                if token.repeated:
                    repeated |= 1 << at
                else:
                    single |= 1 << at
        self._masks[letter] = single, repeated
        return single, repeated
