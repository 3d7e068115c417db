"""Filters of lists, events and prunes: a key with several values, checked against what is known."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from sampan.errors import InvalidArgument


class Filters:
    """What a client wants to see. Source: moby api/types/filters, daemon/list.go."""

    def __init__(self, wanted: Mapping[str, Sequence[str]], known: Collection[str]) -> None:
        """Raise InvalidArgument ("invalid filter 'x'") for a key that is not known."""
        for key in wanted:
            if key not in known:
                raise InvalidArgument(f"invalid filter '{key}'")
        self._wanted = {key: list(values) for key, values in wanted.items() if values}

    def __contains__(self, key: str) -> bool:
        return key in self._wanted

    def values(self, key: str) -> list[str]:
        """Return the values of a key, empty if it is not there."""
        return self._wanted.get(key, [])

    def one_of(self, key: str, value: str) -> bool:
        """Tell whether the value is wanted: one of the key's, or the key is not there."""
        return key not in self._wanted or value in self._wanted[key]

    def boolean(self, key: str) -> bool | None:
        """Return the key's truth, None without it; InvalidArgument for anything else."""
        found = {value.lower() for value in self.values(key)}
        if not found:
            return None
        if found <= {"1", "true"}:
            return True
        if found <= {"0", "false"}:
            return False
        raise InvalidArgument(f"invalid filter '{key}=[{' '.join(self.values(key))}]'")

    def matching(self, key: str, *candidates: str) -> bool:
        """Tell whether a value, as a regular expression, is found in one of the candidates."""
        if key not in self._wanted:
            return True
        for value in self._wanted[key]:
            try:
                if any(re.search(value, candidate) for candidate in candidates):
                    return True
            except re.error:
                if value in candidates:
                    return True
        return False

    def labels(self, labels: Mapping[str, str], key: str = "label") -> bool:
        """Tell whether all wanted labels ("name" or "name=value") are there."""
        return all(_has(labels, value) for value in self.values(key))

    def without_labels(self, labels: Mapping[str, str]) -> bool:
        """Tell whether none of the labels of the key `label!` is there."""
        return not any(_has(labels, value) for value in self.values("label!"))


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)
