"""Which records of the cache a prune takes."""

from __future__ import annotations

import time

import pytest

from sampan.build.cache import Record
from sampan.build.pruning import PruneWish, to_prune
from sampan.errors import InvalidArgument

HOUR = 3600 * 10**9
NOW = time.time_ns()


def record(name: str, hours: float, chain: str = "") -> Record:
    used = int(NOW - hours * HOUR)
    return Record(name, chain or f"chain-{name}", "diff", "", used, used, 1, f"RUN {name}")


RECORDS = [record("a", 48), record("b", 2), record("c", 1, "chain-b"), record("d", 0)]


def pruned(**options: object) -> str:
    wish = PruneWish(**options)  # type: ignore[arg-type]
    return "".join(one.key for one in to_prune(RECORDS, wish, lambda _: 100))


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({}, "abcd"),
        ({"filters": {"until": ["24h"]}}, "a"),
        ({"filters": {"unused-for": ["90m"]}}, "ab"),
        ({"filters": {"id": ["b"]}}, "b"),
        ({"filters": {"description": ["RUN c"]}}, "c"),
        ({"filters": {"type": ["internal"]}}, ""),
        ({"keep": 1000}, ""),
        ({"keep": 200}, "a"),
        ({"keep": 100}, "ab"),
    ],
)
def test_filters_and_a_size_to_keep(options: dict[str, object], gone: str) -> None:
    assert pruned(**options) == gone


def test_unknown_filters_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid filter 'x'"):
        pruned(filters={"x": ["y"]})
