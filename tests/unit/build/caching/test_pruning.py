"""Which records of the cache a prune takes."""

from __future__ import annotations

import time

import pytest

from sampan.build.caching.cache import MOUNT, Record
from sampan.build.caching.conditions import read_conditions
from sampan.build.caching.pruning import PruneWish, selected, to_prune, usages, wish_of
from sampan.errors import InvalidArgument
from sampan.spec.build import GCPolicy, MountedCache

HOUR = 3600 * 10**9
NOW = time.time_ns()


def record(name: str, hours: float, chain: str | None = None, parent: str = "") -> Record:
    used = int(NOW - hours * HOUR)
    chain = f"chain-{name}" if chain is None else chain
    return Record(name, chain, "diff", parent, used, used, 1, f"RUN {name}")


RECORDS = [
    record("a", 48),
    record("b", 2),
    record("c", 1, "chain-b"),
    record("d", 0, parent="chain-a"),
    record("e", 0, ""),
    record("i", 0),
]
FOUND = usages(RECORDS, lambda _: 100, {"chain-i"})


def pruned(wish: PruneWish, free: int = 0) -> str:
    return "".join(one.record.key for one in to_prune(FOUND, wish, free))


def test_layers_are_counted_once_and_have_parents() -> None:
    assert [one.size for one in FOUND] == [100, 100, 0, 100, 0, 100]
    assert [list(one.parents) for one in FOUND] == [[], [], [], ["a"], [], []]
    assert [one.shared for one in FOUND] == [False] * 5 + [True]
    assert [one.type for one in FOUND][-2:] == ["internal", "regular"]


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        ({}, "abcd"),
        ({"until": ["24h"]}, "a"),
        ({"until": ["0"]}, ""),
        ({"until": ["-1h"]}, "abcd"),
        ({"unused-for": ["90m"]}, "ab"),
        ({"until": [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW / 10**9 - 5400))]}, "ab"),
        ({"id": ["b"]}, "b"),
        ({"parent": ["a"]}, "d"),
        ({"description": ["RUN c"]}, "c"),
        ({"type": ["internal"]}, ""),
        ({"shared": []}, ""),
        ({"private": []}, "abcd"),
        ({"inuse": []}, ""),
        ({"mutable": ["true"]}, ""),
        ({"immutable": ["true"], "id": ["a"]}, "a"),
    ],
)
def test_filters_of_the_classic_api(filters: dict[str, list[str]], gone: str) -> None:
    assert pruned(wish_of(filters, GCPolicy())) == gone


@pytest.mark.parametrize(
    ("texts", "gone"),
    [
        ([], "abcdei"),
        ([""], "abcdei"),
        (["id~=b"], "b"),
        (["id==a", "id==b"], "ab"),
        (["type==regular,description!=RUN a"], "bcdi"),
        (["shared"], "i"),
        (["shared==false,type==regular"], "abcd"),
        (["id~=^a$"], "a"),
    ],
)
def test_filters_of_buildkit(texts: list[str], gone: str) -> None:
    assert pruned(PruneWish(all=True, conditions=read_conditions(texts))) == gone


@pytest.mark.parametrize(
    ("sizes", "free", "gone"),
    [
        ({"max_used": 1000}, 0, ""),
        ({"max_used": 300}, 0, "a"),
        ({"max_used": 200}, 0, "ab"),
        ({"reserved": 300}, 0, "a"),
        ({"reserved": 1000, "max_used": 100}, 0, ""),
        ({"min_free": 500}, 500, ""),
        ({"min_free": 500}, 400, "a"),
        ({"min_free": 500, "reserved": 1000}, 0, ""),
        ({"max_used": 300, "min_free": 500}, 350, "ab"),
        ({"min_free": 5000, "keep_duration": 24 * HOUR}, 0, "a"),
    ],
)
def test_sizes_that_stay(sizes: dict[str, int], free: int, gone: str) -> None:
    assert pruned(PruneWish(**sizes), free) == gone  # type: ignore[arg-type]


def test_records_are_selected_by_age() -> None:
    assert [one.record.key for one in selected(FOUND, [], 90 * 60 * 10**9)] == ["a", "b"]


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ({"x": ["y"]}, "invalid filter 'x'"),
        ({"until": ["1h"], "unused-for": ["1h"]}, "conflicting filters"),
        ({"id": ["a", "b"]}, '"id" filter expects only one value'),
        ({"until": ["1.2.3"]}, 'failed to parse value as time or duration: "1.2.3"'),
    ],
)
def test_what_cannot_be_is_refused(filters: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        wish_of(filters, GCPolicy())


def test_shared_folders_are_records_that_change_and_stay_while_a_step_has_them() -> None:
    names = [f"{MOUNT}{number}" for number in range(3)]
    records = [record(name, 1, "") for name in names]
    mounts = {names[0]: MountedCache(size=7), names[1]: MountedCache(size=8, in_use=True)}
    found = usages(records, lambda _: 100, (), mounts)
    assert [(one.id, one.size, one.type) for one in found] == [
        (name, size, "exec.cachemount") for name, size in zip(names, (7, 8, 0), strict=True)
    ]
    assert [one.id for one in to_prune(found, PruneWish())] == [names[0], names[2]]
    conditions = read_conditions(["mutable"])
    assert len(selected(found, conditions)) == 3
    assert selected(FOUND, conditions) == []
