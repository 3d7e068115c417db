"""What a configuration may look like: a tree of sections, lists, maps and values, each checked.

A node finds what is wrong with a value; where the value stands is told by the path of the problem.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

# Go's time.ParseDuration.
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h)")
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}


_MILLISECOND = 1_000_000  # nanoseconds; nobody waits for less


@dataclass(frozen=True)
class Problem:
    """Something wrong. What is only unknown stops `verify`, not `serve`; what is harmless, nothing.

    Harmless is what has no effect here and that nobody misses.
    """

    path: str
    message: str
    unknown: bool = False
    harmless: bool = False

    @property
    def stops(self) -> bool:
        """Tell whether nothing can be served with this."""
        return not (self.unknown or self.harmless)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Node(Protocol):
    """One place in the tree."""

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        """Yield what is wrong with a value."""


def below(path: str, key: object) -> str:
    """Return the path of something inside."""
    return f"{path}.{key}" if path else str(key)


@dataclass(frozen=True)
class Text:
    """A string; YAML's numbers and booleans count as what was written.

    `any_case`: choices may be written in capitals, too.
    """

    choices: tuple[str, ...] = ()
    needed: bool = False
    any_case: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        if isinstance(value, (dict, list)):
            yield Problem(path, "must be a string")
        elif self.choices and self._folded(value) not in self.choices:
            yield Problem(path, f"must be one of {', '.join(self.choices)}, not {value!r}")
        elif self.needed and value in (None, ""):
            yield Problem(path, "is required")

    def _folded(self, value: Any) -> Any:
        return value.lower() if self.any_case and isinstance(value, str) else value


@dataclass(frozen=True)
class Boolean:
    """true or false."""

    needed: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        if not isinstance(value, bool) and value is not None:
            yield Problem(path, f"must be true or false, not {value!r}")


@dataclass(frozen=True)
class Integer:
    """A whole number. With `quoted` a string that is one counts, too."""

    least: int = 0
    needed: bool = False
    quoted: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        if self.quoted and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            yield Problem(path, f"must be a whole number, not {value!r}")
        elif value < self.least:
            yield Problem(path, f"must be at least {self.least}")


def seconds(value: object) -> float:
    """Return a duration as Go writes it (`2h10m`, `500ms`), or nanoseconds, in seconds.

    Raises ValueError.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value / 1e9
    text = str(value)
    if text == "0":
        return 0.0
    pieces = _DURATION.findall(text)
    if not pieces or "".join(pieces) != text.lstrip("+-") or len(text.lstrip("+-")) + 1 < len(text):
        raise ValueError(f"{value!r} is no duration")
    total = 0.0
    for piece in pieces:
        number = piece.rstrip("nuµμmsh")
        total += float(number) * _UNITS[piece[len(number) :]]
    return -total if text.startswith("-") else total


@dataclass(frozen=True)
class Duration:
    """A time, as Go writes it; a bare number is nanoseconds."""

    needed: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        try:
            seconds(value)
        except ValueError:
            yield Problem(path, f"must be a duration such as 10s or 2h10m, not {value!r}")
            return
        if isinstance(value, int) and 0 < value < _MILLISECOND:
            message = f"{value} is a number of nanoseconds: is {value}ms meant?"
            yield Problem(path, message, harmless=True)


_SIZE = re.compile(r"(\d{1,18})(?:([kKMGT])(i?)B?|B)?", re.ASCII)
_POWERS = " KMGT"


def size(value: object) -> int:
    """Return a number of bytes: 10, 10MB (decimal), 10MiB (binary). Raises ValueError."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).replace(" ", ""))
    if match is None:
        raise ValueError(f"{value!r} is no size")
    step = 1024 if match[3] else 1000
    power = _POWERS.index(match[2].upper()) if match[2] else 0
    return int(match[1]) * int(step**power)


@dataclass(frozen=True)
class Size:
    """A number of bytes."""

    needed: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        try:
            size(value)
        except ValueError:
            yield Problem(path, f"must be a size such as 500MB or 10GiB, not {value!r}")


@dataclass(frozen=True)
class Many:
    """A list."""

    of: Node
    needed: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        if value is None:
            return
        if not isinstance(value, list):
            yield Problem(path, "must be a list")
            return
        for number, item in enumerate(value):
            yield from self.of.problems(item, f"{path}[{number}]")


@dataclass(frozen=True)
class Free:
    """A map with keys of the user's choice."""

    of: Node
    needed: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        if value is None:
            return
        if not isinstance(value, dict):
            yield Problem(path, "must be a map")
            return
        for key, item in value.items():
            yield from self.of.problems(item, below(path, key))


@dataclass(frozen=True)
class Anything:
    """Whatever it is: a part that this version does not have."""

    needed: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        yield from ()


@dataclass(frozen=True)
class Section:
    """A map with known keys. `go` gives the names that environment variables may use instead.

    `word` says that one word may stand for a section with that key alone: `storage: inmemory`.
    """

    keys: Mapping[str, Node]
    go: Mapping[str, str] = field(default_factory=dict)
    word: bool = False
    needed: bool = False

    def problems(self, value: Any, path: str) -> Iterator[Problem]:
        if value is None or (self.word and isinstance(value, str)):
            value = {} if value is None else {value: None}
        if not isinstance(value, dict):
            yield Problem(path, "must be a section")
            return
        for key, item in value.items():
            node = self.keys.get(str(key))
            if node is None:
                yield self._unknown(str(key), below(path, key))
            elif item is not None or getattr(node, "needed", False):
                yield from node.problems(item, below(path, key))
        for key, node in self.keys.items():
            if getattr(node, "needed", False) and key not in value:
                yield Problem(below(path, key), "is required")

    def _unknown(self, key: str, path: str) -> Problem:
        close = difflib.get_close_matches(key.lower(), self.keys, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return Problem(path, f"is not known{hint}", unknown=True)

    def find(self, name: str) -> str | None:
        """Return the key that a part of an environment variable's name means."""
        for key in self.keys:
            if name in (key.upper(), self.go.get(key, key).upper()):
                return key
        return None
