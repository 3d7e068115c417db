"""Which records of the build cache a prune takes, and what clients are told of each.

Source: moby daemon/internal/builder-next/builder.go (filters), worker/gc.go (policies); buildkit
cache/manager.go (order, and how much stays).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from msgspec import structs

from sampan.build.caching.cache import Record
from sampan.build.caching.conditions import Condition, Fields, of, of_switch, passes
from sampan.errors import InvalidArgument
from sampan.spec.build import GCPolicy, MountedCache
from sampan.spec.times import parse_time

_ID: Final = 25  # letters, as many as BuildKit's have
_UNTIL: Final = ("until", "unused-for")
_NAMES: Final = (
    "id parent parents type description inuse shared private dangling mutable immutable"
).split()
_GB: Final = 10**9
_OLD: Final = 60 * 24 * 3600 * 10**9  # nanoseconds
REGULAR, INTERNAL, MOUNTED = "regular", "internal", "exec.cachemount"


@dataclass(frozen=True, slots=True)
class Usage:
    """A record as clients see it."""

    record: Record
    size: int  # bytes of its layer; 0 for all but one of several records of a layer
    shared: bool  # an image has the layer, too
    parents: Sequence[str]  # ids
    in_use: bool = False

    @property
    def id(self) -> str:
        """What clients call it; a folder of RUN --mount=type=cache by the name of its volume."""
        return self.record.key if self.record.is_mount else self.record.key[:_ID]

    @property
    def type(self) -> str:
        """What it is: a layer, a shared folder, or only the time of a step that has none."""
        if self.record.is_mount:
            return MOUNTED
        return REGULAR if self.record.is_layer else INTERNAL

    def fields(self) -> Fields:
        """Return how conditions on it are checked."""
        parents = self.parents
        return {
            "id": of(self.id),
            "parent": lambda one: any(one.is_met(it) for it in parents or [""]),
            "parents": lambda one: any(one.is_met(it) for it in parents or [""]),
            "type": of(self.type),
            "description": of(self.record.description),
            "inuse": of_switch(self.in_use),
            "mutable": of_switch(self.record.is_mount),
            "immutable": of_switch(not self.record.is_mount),
            "shared": of_switch(self.shared),
            "private": of_switch(not self.shared),
            "dangling": of_switch(not self.shared),
        }


@dataclass(frozen=True, slots=True)
class PruneWish:
    """What a client wants to go. Sizes are in bytes, 0 says nothing."""

    all: bool = False  # also what images share, and what is no layer
    conditions: Sequence[Sequence[Condition]] = ()
    keep_duration: int = 0  # nanoseconds: what was used since stays
    reserved: int = 0  # as much stays in any case
    max_used: int = 0  # no more stays
    min_free: int = 0  # as much is to be free on the disk

    @classmethod
    def of(cls, policy: GCPolicy, conditions: Sequence[Sequence[Condition]]) -> PruneWish:
        """Return what a policy of the engine asks for."""
        return cls(
            policy.all,
            conditions,
            policy.keep_duration,
            policy.reserved,
            policy.max_used,
            policy.min_free,
        )

    def keep(self, total: int, free: int) -> int:
        """Return how many of `total` bytes may stay, if `free` bytes of the disk are free."""
        keep = self.max_used
        if self.min_free:
            missing = max(self.min_free - free, 0)
            keep = min(keep or total, max(total - missing, 0))
        return max(keep, self.reserved)

    @property
    def is_limited(self) -> bool:
        """Something stays because of its size."""
        return bool(self.reserved or self.max_used or self.min_free)


def usages(
    records: Sequence[Record],
    size: Callable[[str], int],
    in_images: Collection[str],
    mounts: Mapping[str, MountedCache] | None = None,
) -> list[Usage]:
    """Return records as clients see them, in the same order; `mounts` are by their keys."""
    ids: dict[str, list[str]] = {}
    for record in records:
        if record.chain:
            ids.setdefault(record.chain, []).append(record.key[:_ID])
    seen: set[str] = set()
    found = []
    for record in records:
        if record.is_mount:
            mount = (mounts or {}).get(record.key, MountedCache(size=0))
            found.append(Usage(record, mount.size, False, (), in_use=mount.in_use))
            continue
        chain = record.chain
        own = size(chain) if chain and chain not in seen else 0
        seen.add(chain)
        parents = [one for one in ids.get(record.parent, []) if one != record.key[:_ID]]
        found.append(Usage(record, own, bool(chain) and chain in in_images, parents[:1]))
    return found


def selected(
    found: Iterable[Usage], conditions: Sequence[Sequence[Condition]], age: int = 0
) -> list[Usage]:
    """Return the records that are meant, and were not used for `age` nanoseconds."""
    limit = time.time_ns() - age
    return [
        one
        for one in found
        if passes(conditions, one.fields()) and (not age or one.record.used <= limit)
    ]


def to_prune(found: Sequence[Usage], wish: PruneWish, free: int = 0) -> list[Usage]:
    """Return the records that go, of those given oldest use first. Raises InvalidArgument."""
    wanted = selected(found, wish.conditions, wish.keep_duration)
    wanted = [one for one in wanted if not one.in_use]
    if not wish.all:
        wanted = [one for one in wanted if not one.shared and one.type != INTERNAL]
    if not wish.is_limited:
        return wanted
    left = sum(one.size for one in found)
    keep = wish.keep(left, free)
    gone: list[Usage] = []
    for one in wanted:
        if left <= keep:
            break
        gone.append(one)
        left -= one.size
    return gone


def wish_of(filters: Mapping[str, Sequence[str]], policy: GCPolicy) -> PruneWish:
    """Return what filters of the classic API ask for, besides a policy. Raises InvalidArgument."""
    until = [name for name in _UNTIL if filters.get(name)]
    if len(until) > 1:
        raise InvalidArgument('conflicting filters "until" and "unused-for"')
    conditions = []
    for name, values in filters.items():
        if name not in (*_UNTIL, *_NAMES):
            raise InvalidArgument(f"invalid filter '{name}'")
        if len(values) > 1:
            raise InvalidArgument(f'"{name}" filter expects only one value')
        if name not in _UNTIL:
            operator = "" if not values else "~=" if name in ("id", "description") else "=="
            conditions.append(Condition(name, operator, values[0] if values else ""))
    keep = _age(filters[until[0]][0]) if until else 0
    wish = PruneWish.of(policy, [conditions] if conditions else ())
    return replace(wish, keep_duration=keep)


def _age(text: str) -> int:
    """Return since how many nanoseconds nobody used what `until` means: 1 at least, 0 is any."""
    now = time.time_ns()
    return max(now - parse_time(text, now), 1)


def default_policies(disk: int) -> list[GCPolicy]:
    """Return what is swept on a disk of so many bytes, unless something else is wanted."""
    reserved = min(disk // 10, 10 * _GB)
    limits = GCPolicy(
        reserved=reserved,
        max_used=max(min(disk * 4 // 5, 100 * _GB), reserved),
        min_free=min(disk // 5, 100 * _GB),
    )
    old, everything = (
        structs.replace(limits, keep_duration=_OLD),
        structs.replace(limits, all=True),
    )
    return [old, limits, everything]
