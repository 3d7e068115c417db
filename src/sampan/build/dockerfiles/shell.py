"""Words of a Dockerfile: quotes, escapes and variables, as a shell reads them.

Source: docker documentation, Dockerfile reference, "Environment replacement"; moby buildkit
frontend/dockerfile/shell/lex.go (rules and messages).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.build.files.globs import Glob, Token, any_letter
from sampan.errors import InvalidArgument

_MODIFIERS: Final = frozenset("+-?#%")
_SPECIAL: Final = frozenset("@*#?-$!0")
_WILD: Final = frozenset("*?\\")
_DEPTH: Final = 50  # of substitutions inside substitutions
_SEARCH: Final = 1 << 20  # turns of matching patterns, in one text
_GROWTH: Final = 1 << 20  # letters by which values may make a text longer


@dataclass(slots=True)
class Expanded:
    """What became of a word."""

    text: str
    words: list[str]  # the same, split at blanks outside of quotes
    used: set[str] = field(default_factory=set)  # variables that were looked up
    unset: set[str] = field(default_factory=set)  # those that were not there


@dataclass(frozen=True, slots=True)
class Shell:
    """How words are read. `escape` is the letter that takes the meaning of the next one.

    `raw_quotes` and `raw_escapes` leave those in the words; `keep_unset` leaves variables that are
    not set as they are written.
    """

    escape: str = "\\"
    raw_quotes: bool = False
    raw_escapes: bool = False
    keep_unset: bool = False

    def expand(self, text: str, variables: Mapping[str, str]) -> Expanded:
        """Replace variables and take quotes and escapes away.

        Raises InvalidArgument for quotes and braces that do not end, and for `${name?message}`.
        """
        reader = _Reader(self, text, variables)
        try:
            result = reader.until("")
        except InvalidArgument as error:
            shown = json.dumps(text, ensure_ascii=False)
            raise InvalidArgument(f"failed to process {shown}: {error}") from error
        return Expanded(result, reader.words.all(), reader.used, reader.unset)

    def word(self, text: str, variables: Mapping[str, str]) -> str:
        """Return one word, expanded."""
        return self.expand(text, variables).text


class _Words:
    """Collects words; blanks end them, unless they were quoted."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._letters: list[str] = []

    def plain(self, text: str) -> None:
        for letter in text:
            if letter.isspace():
                self._end()
            else:
                self.raw(letter)

    def raw(self, text: str) -> None:
        self._letters.append(text)

    def _end(self) -> None:
        if word := "".join(self._letters):
            self._done.append(word)
        self._letters = []

    def all(self) -> list[str]:
        self._end()
        return self._done


class _Reader:
    def __init__(self, shell: Shell, text: str, variables: Mapping[str, str]) -> None:
        self._shell, self._text, self._variables = shell, text, variables
        self._at = 0
        self._depth = 0
        self._raw_escapes = shell.raw_escapes
        self._search, self._growth = _SEARCH, _GROWTH  # what is left
        self.words = _Words()
        self.used: set[str] = set()
        self.unset: set[str] = set()

    # --- letters ---------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _next(self) -> str:
        letter = self._peek()
        self._at += 1
        return letter

    # --- words -----------------------------------------------------------------------------

    def until(self, stop: str, *, raw_escapes: bool = False) -> str:
        """Return what comes before `stop`, which is taken; "" is the end of the text."""
        before, self._raw_escapes = self._raw_escapes, self._raw_escapes or raw_escapes
        result: list[str] = []
        while (letter := self._peek()) and letter != stop:
            result.append(self._piece(letter))
        self._raw_escapes = before
        if stop and not self._next():
            raise InvalidArgument(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result)

    def _piece(self, letter: str) -> str:
        if letter == "'":
            return self._single()
        if letter == '"':
            return self._double()
        if letter == "$":
            value = self._dollar()
            self._note(value)
            return value
        if self._text.startswith("<<", self._at):
            return self._heredoc()
        self._at += 1
        if letter != self._shell.escape:
            self._note(letter)
            return letter
        kept = letter if self._raw_escapes else ""
        escaped = self._next()
        if not self._depth and kept + escaped:
            self.words.raw(kept + escaped)
        return kept + escaped

    def _heredoc(self) -> str:
        """Take `<<` with the blanks after it: what it names is the same word."""
        start = self._at
        self._at += 2
        while self._peek() and self._peek() in "\t\r ":
            self._at += 1
        if not self._depth:
            self.words.raw(self._text[start : self._at])
        return self._text[start : self._at]

    def _note(self, text: str) -> None:
        if not self._depth:  # inside of braces nothing is a word of its own yet
            self.words.plain(text)

    def _quoted(self, text: str, quote: str) -> str:
        text = f"{quote}{text}{quote}" if self._shell.raw_quotes else text
        if not self._depth:
            self.words.raw(text)
        return text

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            self._at = len(self._text)
            raise InvalidArgument(
                "unexpected end of statement while looking for matching single-quote"
            )
        text, self._at = self._text[self._at + 1 : end], end + 1
        return self._quoted(text, "'")

    def _double(self) -> str:
        self._at += 1
        result = []
        while (letter := self._peek()) != '"':
            if not letter:
                raise InvalidArgument(
                    "unexpected end of statement while looking for matching double-quote"
                )
            if letter == "$":
                result.append(self._dollar())
                continue
            self._at += 1
            if letter == self._shell.escape:
                following = self._next()
                if self._raw_escapes or following not in ('"', "$", self._shell.escape):
                    result.append(letter)
                result.append(following)
            else:
                result.append(letter)
        self._at += 1
        return self._quoted("".join(result), '"')

    # --- variables -------------------------------------------------------------------------

    def _name(self) -> str:
        """Take the name of a variable: letters, digits and _, or one special letter."""
        start, letter = self._at, self._peek()
        if letter.isdecimal():
            while self._peek().isdecimal():
                self._at += 1
        elif letter and letter in _SPECIAL:
            self._at += 1
        else:
            while self._peek().isalpha() or self._peek().isdecimal() or self._peek() == "_":
                self._at += 1
        return self._text[start : self._at]

    def _value(self, name: str) -> str | None:
        self.used.add(name)
        value = self._variables.get(name)
        if value is None:
            self.unset.add(name)
        self._grow(len(value or ""))
        return value

    def _grow(self, letters: int) -> None:
        self._growth -= letters
        if self._growth < 0:
            raise InvalidArgument("the values of variables make an instruction too long")

    def _dollar(self) -> str:
        self._at += 1
        if self._peek() == "{":
            self._at += 1
            self._depth += 1
            try:
                return self._braces()
            finally:
                self._depth -= 1
        name = self._name()
        if not name:
            return "$"
        value = self._value(name)
        if value is None:
            return f"${name}" if self._shell.keep_unset else ""
        return value

    def _braces(self) -> str:
        if self._depth > _DEPTH:
            raise InvalidArgument("syntax error: substitutions are nested too deeply")
        if not self._peek():
            raise InvalidArgument("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise InvalidArgument("syntax error: bad substitution")
        start = self._at - 2
        name = self._name()
        modifier = self._next()
        if not modifier:
            raise InvalidArgument("syntax error: missing '}'")
        if modifier == "}":
            value = self._value(name)
            if value is None:
                return self._unset_text(start)
            return value
        if modifier == "/":
            return self._replaced(name, start)
        empty_is_unset = modifier == ":"
        if empty_is_unset:
            modifier = self._next()
        shown = ":" * empty_is_unset + modifier
        unsupported = InvalidArgument(f"unsupported modifier ({shown}) in substitution")
        if (modifier not in _MODIFIERS and not empty_is_unset) or shown in (":#", ":%"):
            raise unsupported
        word = self._until_brace("}", raw_escapes=modifier in ("#", "%"))
        value = self._value(name)
        if value is None and self._shell.keep_unset:
            return f"${{{name}{shown}{word}}}"
        if modifier not in _MODIFIERS:
            raise unsupported
        if modifier in "#%":
            self._look(len(value or "") * len(word) >> 10)  # a place of a pattern is one bit
        return _modified(name, value, modifier, word, empty_is_unset=empty_is_unset)

    def _unset_text(self, start: int) -> str:
        return self._text[start : self._at] if self._shell.keep_unset else ""

    def _until_brace(self, stop: str, *, raw_escapes: bool) -> str:
        try:
            return self.until(stop, raw_escapes=raw_escapes)
        except InvalidArgument as error:
            if self._at < len(self._text):
                raise
            missing = "'/' in ${}" if stop == "/" else "'}'"
            raise InvalidArgument(f"syntax error: missing {missing}") from error

    def _replaced(self, name: str, start: int) -> str:
        every = self._peek() == "/"
        self._at += every
        pattern = self._until_brace("/", raw_escapes=True)
        replacement = self._until_brace("}", raw_escapes=True)
        value = self._value(name)
        if value is None and self._shell.keep_unset:
            return f"${{{name}/{'/' * every}{pattern}/{replacement}}}"
        value = value or ""
        is_wild = bool(_WILD & set(pattern))
        if is_wild:
            longest = len(value) if "*" in pattern else min(len(value), len(pattern))
            self._look(len(value) * longest)
        places = len(value) if is_wild else value.count(pattern)
        self._grow((places if every else 1) * len(replacement))
        return replaced(value, pattern, replacement, every=every)

    def _look(self, turns: int) -> None:
        self._search -= turns
        if self._search < 0:
            raise InvalidArgument("a value is too long to be searched for a pattern")


def _modified(
    name: str, value: str | None, modifier: str, word: str, *, empty_is_unset: bool
) -> str:
    given = bool(value) if empty_is_unset else value is not None
    if modifier == "-":
        return (value or "") if given else word
    if modifier == "+":
        return word if given else ""
    if modifier == "?":
        if given:
            return value or ""
        what = "empty" if value == "" else "unset"
        raise InvalidArgument(f"{name}: {word or f'is not allowed to be {what}'}")
    longest = word.startswith(modifier)
    pattern = word[1:] if longest else word
    if modifier == "#":
        return without_prefix(value or "", pattern, longest=longest)
    return without_suffix(value or "", pattern, longest=longest)


# --- patterns ------------------------------------------------------------------------------


def _tokens(pattern: str) -> list[Token]:
    tokens: list[Token] = []
    letters = iter(pattern)
    for letter in letters:
        if letter == "*":
            if not (tokens and tokens[-1].repeated):
                tokens.append(Token(any_letter, repeated=True))
        elif letter == "?":
            tokens.append(Token(any_letter))
        elif letter == "\\":
            following = next(letters, "\ufffd")
            if following not in "*?\\}/":
                fault = f"invalid escape '\\{following}'"
                raise InvalidArgument(f"invalid pattern ({pattern}) in substitution: {fault}")
            tokens.append(Token(following))
        else:
            tokens.append(Token(letter))
    return tokens


def without_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """Take the shortest or longest beginning away that matches the pattern (`#`, `##`)."""
    ends = list(Glob(_tokens(pattern)).ends(value))
    return value[ends[-1 if longest else 0] :] if ends else value


def without_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """Take the shortest or longest end away that matches the pattern (`%`, `%%`)."""
    ends = list(Glob(_tokens(pattern)[::-1]).ends(value[::-1]))
    return value[: len(value) - ends[-1 if longest else 0]] if ends else value


def replaced(value: str, pattern: str, replacement: str, *, every: bool) -> str:
    """Replace what matches the pattern, once or everywhere (`/`, `//`)."""
    if not pattern:
        return value
    if not _WILD & set(pattern):
        return value.replace(pattern, replacement, -1 if every else 1)
    glob, result, at = Glob(_tokens(pattern)), [], 0
    if not value:
        return replacement if glob.matches("") else ""
    while at < len(value):
        length = max(glob.ends(value[at:]), default=0)
        if not length:
            result.append(value[at])
            at += 1
            continue
        result.append(replacement)
        at += length
        if not every:
            break
    return "".join(result) + value[at:]
