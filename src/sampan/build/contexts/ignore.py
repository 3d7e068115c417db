"""`.dockerignore`: which paths of a folder do not belong to a build context.

Source: moby patternmatcher (matching, the order of exceptions), ignorefile (lines); docker
documentation, "Build context", ".dockerignore files".
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from typing import Final

from sampan.build.files.globs import GATE, Accepts, Glob, Token, any_letter, no_slash
from sampan.errors import InvalidArgument

_MAX_PATTERN: Final = 4096


def read_ignore(content: bytes) -> list[str]:
    """Return the patterns of an ignore file: cleaned, relative, exceptions with their `!`."""
    text = content.decode("utf-8", "replace").removeprefix("\ufeff")
    patterns = []
    for line in text.split("\n"):
        if line.startswith("#") or not (pattern := line.strip()):
            continue
        exception = pattern.startswith("!")
        pattern = pattern[1:].strip() if exception else pattern
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        patterns.append("!" * exception + pattern)
    return patterns


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


class Pattern:
    """One line of an ignore file."""

    def __init__(self, text: str) -> None:
        self.is_exception = text.startswith("!")
        self.text = text[1:] if self.is_exception else text
        if self.is_exception and not self.text:
            raise InvalidArgument('illegal exclusion pattern: "!"')
        if len(self.text) > _MAX_PATTERN:
            raise InvalidArgument("a pattern is too long")
        _check_beginning(self.text)
        self._kind, self._glob = _compiled(self.text)

    def matches(self, path: str) -> bool:
        """Tell whether exactly this path is meant."""
        if self._kind == "bad":
            raise InvalidArgument("syntax error in pattern")
        if self._kind == "exact":
            return path == self.text
        if self._kind == "prefix":
            return path.startswith(self.text[:-2])
        if self._kind == "suffix":
            suffix = self.text[2:]
            return path.endswith(suffix) or (suffix[0] == "/" and path == suffix[1:])
        return self._glob is not None and self._glob.matches(path)


def _compiled(text: str) -> tuple[str, Glob | None]:
    """Return how a pattern is matched: "exact", "prefix", "suffix", "glob", "bad" not at all."""
    tokens: list[Token] = []
    optional: list[tuple[int, int]] = []
    kind, at = "exact", 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == "*" and text[at : at + 1] == "*":
            first = at == 1
            at += 1
            at += text[at : at + 1] == "/"
            if at >= len(text):
                tokens.append(Token(any_letter, repeated=True))
                kind = "prefix" if kind == "exact" else "glob"
            else:
                tokens += [GATE, Token(any_letter, repeated=True), Token("/")]
                optional.append((len(tokens) - 3, len(tokens)))
                kind = "glob"
            kind = "suffix" if first else kind
        elif letter == "*":
            tokens.append(Token(no_slash, repeated=True))
            kind = "glob"
        elif letter == "?":
            tokens.append(Token(no_slash))
            kind = "glob"
        elif letter == "[":
            accepts, at = _class(text, at)
            if accepts is None:
                return "bad", None
            tokens.append(Token(accepts))
            kind = "glob"
        elif letter == "\\":
            tokens.append(Token(text[at : at + 1] or letter))
            kind = "glob" if at < len(text) else kind
            at += 1
        else:
            tokens.append(Token(letter))
    return kind, Glob(tokens, optional) if kind == "glob" else None


def _class(text: str, at: int) -> tuple[Accepts | None, int]:
    """Read what stands in brackets: letters and ranges, with `^` all others; None if it is bad."""
    negated = text.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (text.startswith("]", at) and ranges):
        low, at = _class_letter(text, at)
        high = low
        if text.startswith("-", at) and text[at + 1 : at + 2] != "]":
            high, at = _class_letter(text, at + 1)
        if not low or not high or high < low:
            return None, at
        ranges.append((low, high))

    def accepts(letter: str) -> bool:
        return any(low <= letter <= high for low, high in ranges) != negated

    return accepts, at + 1


def _class_letter(text: str, at: int) -> tuple[str, int]:
    at += text.startswith("\\", at)
    return text[at : at + 1], at + 1


def _check_beginning(text: str) -> None:
    """Raise InvalidArgument where a pattern, up to its first star, breaks the rules of Go's Match.

    Docker matches every pattern with "." for its errors; what is behind a star is not reached.
    """
    text, at = text.lstrip("*"), 0
    while at < len(text) and text[at] != "*":
        if text[at] == "[":
            at = _check_class(text, at + 1)
        elif text[at:] == "\\":
            raise InvalidArgument("syntax error in pattern")
        else:
            at += 2 if text[at] == "\\" else 1


def _check_class(text: str, at: int) -> int:
    at += text.startswith("^", at)
    empty = True
    while empty or not text.startswith("]", at):
        for _ in range(2):  # the ends of a range
            if text[at : at + 1] in ("", "-", "]") or text[at:] == "\\":
                raise InvalidArgument("syntax error in pattern")
            at += 2 if text[at] == "\\" else 1
            empty = False
            if not text.startswith("-", at):
                break
            at += 1
        if at >= len(text):
            raise InvalidArgument("syntax error in pattern")
    return at + 1


class Ignore:
    """The patterns of an ignore file, together. Paths are relative, with `/`, and clean."""

    def __init__(self, patterns: Iterable[str]) -> None:
        cleaned = (_clean(text.strip()) for text in patterns if text.strip())
        self._patterns: Sequence[Pattern] = [Pattern(text) for text in cleaned]
        self._folders: dict[str, tuple[bool, ...]] = {}  # what was found of them

    def hides(self, path: str) -> bool:
        """Tell whether a path, or a folder above it, is meant by the patterns.

        The last pattern that means it counts; an exception (`!`) brings it back.
        """
        hidden = False
        for pattern, found in zip(self._patterns, self._found(path), strict=True):
            if found and pattern.is_exception == hidden:
                hidden = not hidden
        return hidden

    def _found(self, path: str) -> tuple[bool, ...]:
        """Return for each pattern whether it means the path or a folder above it."""
        found, at = (False,) * len(self._patterns), 0
        while True:
            end = path.find("/", at)
            part = path if end < 0 else path[:end]
            known = self._folders.get(part) if end >= 0 else None
            found = known or tuple(
                above or pattern.matches(part)
                for above, pattern in zip(found, self._patterns, strict=True)
            )
            if end < 0:
                return found
            self._folders[part] = found
            at = end + 1

    def skips(self, folder: str) -> bool:
        """Tell whether nothing below a hidden folder needs to be looked at."""
        start = folder + "/"
        return not any(
            pattern.is_exception and f"{pattern.text}/".startswith(start)
            for pattern in self._patterns
        )
