"""Conditions on records of the build cache and of the history, as clients of BuildKit write them.

`id~=abc,type==regular` are two conditions that have to be met; of several such texts one has to be.

Source: containerd pkg/filters (operators); buildkit client/diskusage.go, cache/manager.go.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgument

_FORM: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)(?:(!=|==|~=|<=|>=|=|<|>)(.*))?", re.DOTALL)
_PATTERN: Final = re.compile(r"[\\\[\](){}*+?|]")  # a pattern of a stranger can take for ever
_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Condition:
    """One field and what it has to be; without an operator it has to be there."""

    name: str
    operator: str = ""
    value: str = ""

    def is_met(self, value: str) -> bool:
        """Tell whether a field that has this value is as wanted."""
        if not self.operator:
            return bool(value)
        if self.operator == "!=":
            return value != self.value
        if self.operator == "~=":
            return _contains(value, self.value)
        return value == self.value


Fields = Mapping[str, Callable[[Condition], bool]]


def read_conditions(texts: Iterable[str]) -> list[list[Condition]]:
    """Return alternatives, each with its conditions. Raises InvalidArgument."""
    alternatives = [text for text in texts if text]
    if len(alternatives) > _MOST:
        raise InvalidArgument("too many filters")
    return [_conditions(text) for text in alternatives]


def _conditions(text: str) -> list[Condition]:
    try:
        parts = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidArgument(f"invalid filter {text!r}: {error}") from error
    found = []
    for part in parts:
        match = _FORM.fullmatch(part.strip())
        if match is None:
            raise InvalidArgument(f"invalid filter {part!r}")
        condition = Condition(match[1], match[2] or "", match[3] or "")
        if condition.operator == "~=" and _PATTERN.search(condition.value):
            raise InvalidArgument(f"invalid filter {part!r}: patterns are not supported")
        found.append(condition)
    return found


def passes(alternatives: Sequence[Sequence[Condition]], fields: Fields) -> bool:
    """Tell whether a thing with these fields is meant; without conditions everything is."""
    if not alternatives:
        return True
    return any(all(_check(one, fields) for one in conditions) for conditions in alternatives)


def _check(condition: Condition, fields: Fields) -> bool:
    if condition.name not in fields:
        raise InvalidArgument(f"invalid filter '{condition.name}'")
    return fields[condition.name](condition)


def _contains(value: str, wanted: str) -> bool:
    text = wanted.removeprefix("^").removesuffix("$")
    if wanted.startswith("^") and wanted.endswith("$"):
        return value == text
    if wanted.startswith("^"):
        return value.startswith(text)
    return value.endswith(text) if wanted.endswith("$") else text in value


def of(value: str) -> Callable[[Condition], bool]:
    """Return how a condition on a text is checked."""
    return lambda condition: condition.is_met(value)


def of_switch(is_on: bool) -> Callable[[Condition], bool]:
    """Return how a condition on what is true or false is checked."""

    def check(condition: Condition) -> bool:
        if not condition.operator:
            return is_on
        wanted = condition.value.lower() in ("true", "1")
        return (is_on == wanted) is (condition.operator != "!=")

    return check
