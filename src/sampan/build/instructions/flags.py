"""The flags of instructions: `--name`, `--name=value`.

Source: moby buildkit frontend/dockerfile/instructions/bflag.go (rules and messages).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sampan.build.instructions.suggesting import hint
from sampan.errors import InvalidArgument

Kind = Literal["bool", "string", "strings"]


class Flags:
    """The flags that one instruction was given."""

    def __init__(self, given: Sequence[str], known: Mapping[str, Kind]) -> None:
        self._known = known
        self._values: dict[str, list[str]] = {}
        for word in given:
            name, equals, value = word.removeprefix("--").partition("=")
            self._take(name, value if equals else None)

    def _take(self, name: str, value: str | None) -> None:
        kind = self._known.get(name)
        if kind is None:
            raise InvalidArgument(f"unknown flag: --{name}{hint(name, self._known)}")
        if name in self._values and kind != "strings":
            raise InvalidArgument(f"duplicate flag specified: --{name}")
        if kind == "bool":
            value = "true" if value is None else value.lower()
            if value not in ("true", "false"):
                raise InvalidArgument(f"expecting boolean value for flag --{name}, not: {value}")
        elif value is None:
            raise InvalidArgument(f"missing a value on flag: --{name}")
        self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def one(self, name: str, default: str = "") -> str:
        """Return the value of a flag."""
        return self._values.get(name, [default])[0]

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of a flag."""
        return tuple(self._values.get(name, ()))

    def boolean(self, name: str) -> bool:
        """Tell whether a flag is set."""
        return self.one(name) == "true"
