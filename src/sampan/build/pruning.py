"""Which records of the build cache a prune takes.

Source: moby daemon/internal/builder-next/builder.go (filters), buildkit cache/manager.go (order).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.build.cache import Record
from sampan.build.instructions.durations import duration
from sampan.errors import InvalidArgument
from sampan.spec.image import nanoseconds

_FILTERS: Final = (
    "until unused-for id parent type description inuse shared private dangling mutable immutable"
).split()


@dataclass(frozen=True, slots=True)
class PruneWish:
    """What a client wants to go. `keep`: bytes that may stay, those used last."""

    all: bool = False
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keep: int = 0


def to_prune(
    records: Sequence[Record], wish: PruneWish, size: Callable[[str], int]
) -> list[Record]:
    """Return the records that go, of those given oldest use first. Raises InvalidArgument."""
    for name in wish.filters:
        if name not in _FILTERS:
            raise InvalidArgument(f"invalid filter '{name}'")
    wanted = [record for record in records if _passes(record, wish.filters)]
    if not wish.keep:
        return wanted
    chains = {record.chain for record in records if record.chain}
    left = sum(size(chain) for chain in chains)
    gone: list[Record] = []
    for record in wanted:
        if left <= wish.keep:
            break
        gone.append(record)
        if record.chain in chains:
            chains.discard(record.chain)
            left -= size(record.chain)
    return gone


def _passes(record: Record, filters: Mapping[str, Sequence[str]]) -> bool:
    kind = "regular" if record.is_layer else "internal"
    facts: dict[str, Callable[[str], bool]] = {
        "id": lambda value: record.key.startswith(value),
        "parent": lambda value: record.parent == value,
        "type": lambda value: kind == value,
        "description": lambda value: value in record.description,
    }
    for name, values in filters.items():
        if name in ("until", "unused-for"):
            if record.used > min(_moment(value) for value in values):
                return False
        elif name in facts and not any(facts[name](value) for value in values):
            return False
    return True


def _moment(text: str) -> int:
    """Return the time that `until` means: a duration before now, or a time."""
    try:
        return time.time_ns() - duration(text)
    except InvalidArgument:
        return int(float(text) * 10**9) if text.replace(".", "").isdecimal() else nanoseconds(text)
