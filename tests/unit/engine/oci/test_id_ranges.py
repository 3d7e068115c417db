"""The table of id ranges: no two containers have one in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.database import Database
from sampan.engine.oci import id_ranges
from sampan.engine.oci.id_ranges import DEFAULT_POOL, IdRanges, pool_of
from sampan.errors import Conflict


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "database")
    yield database
    database.close()


def create(database: Database, ranges: IdRanges, name: str, size: int = 10) -> int:
    """Reserve a range and save the container, as the engine does."""
    first = ranges.reserve(name, size)
    database.save_container(name, name, b"", (first, size))
    ranges.settle(name)
    return first


def test_ranges_follow_one_another(database: Database) -> None:
    ranges = IdRanges(database, [(100, 35)])
    assert [create(database, ranges, name) for name in "abc"] == [100, 110, 120]
    with pytest.raises(Conflict, match="no range of 10 ids is free for --userns=auto: 3 are in"):
        ranges.reserve("d", 10)
    assert create(database, ranges, "e", 5) == 130


def test_a_range_is_free_again_when_its_container_is_removed(database: Database) -> None:
    ranges = IdRanges(database, [(100, 30)])
    for name in "abc":
        create(database, ranges, name)
    database.delete_container("b")
    assert create(database, ranges, "d") == 110


def test_a_range_that_was_just_freed_is_the_last_to_be_used(database: Database) -> None:
    ranges = IdRanges(database, [(100, 30)])
    create(database, ranges, "a")
    database.delete_container("a")
    assert [create(database, ranges, name) for name in "bcd"] == [110, 120, 100]


def test_a_reservation_counts_until_it_is_given_back(database: Database) -> None:
    ranges = IdRanges(database, [(100, 10)])
    ranges.reserve("a", 10)
    with pytest.raises(Conflict):
        ranges.reserve("b", 10)
    ranges.settle("a")
    assert ranges.reserve("b", 10) == 100


def test_another_engine_on_the_same_database_knows_them(database: Database, tmp_path: Path) -> None:
    create(database, IdRanges(database, [(100, 100)]), "a")
    again = Database(tmp_path / "database")
    assert IdRanges(again, [(100, 100)]).reserve("b", 10) == 110
    again.close()


def test_a_range_stays_as_long_as_anybody_runs_in_it(database: Database) -> None:
    ranges = IdRanges(database, [(100, 20)])
    first = create(database, ranges, "a")
    database.save_container("guest", "guest", b"", (first, 10))  # --net=container:a
    database.delete_container("a")
    assert ranges.reserve("b", 10) == 110
    with pytest.raises(Conflict):
        ranges.reserve("c", 10)
    database.delete_container("guest")
    assert ranges.reserve("c", 10) == 100


def test_engines_begin_at_different_places(database: Database) -> None:
    firsts = {
        IdRanges(database, [DEFAULT_POOL], name.encode()).reserve(name, 65536)
        for name in ("/var/lib/one", "/var/lib/two", "/home/three")
    }
    assert len(firsts) == 3
    assert all(0 <= first - DEFAULT_POOL[0] < DEFAULT_POOL[1] for first in firsts)
    assert all(first % 65536 == 0 for first in firsts)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=30))
def test_no_id_is_handed_out_twice(steps: list[tuple[bool, int]]) -> None:
    database = Database(":memory:")
    pool = [(0, 90), (200, 50)]
    ranges = IdRanges(database, pool)
    held: dict[str, range] = {}
    for number, (is_removal, size) in enumerate(steps):
        if is_removal and held:
            name, _ = held.popitem()
            database.delete_container(name)
            continue
        try:
            first = create(database, ranges, str(number), size)
        except Conflict:
            continue
        held[str(number)] = range(first, first + size)
        ids = [each for one in held.values() for each in one]
        assert len(ids) == len(set(ids))
        assert any(b <= first and first + size <= b + n for b, n in pool)
    database.close()


def test_the_pool_is_what_the_administrator_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids, gids = tmp_path / "subuid", tmp_path / "subgid"
    monkeypatch.setattr(id_ranges.subids, "SUBUID", uids)
    monkeypatch.setattr(id_ranges.subids, "SUBGID", gids)
    assert pool_of(["sampan"]) == [DEFAULT_POOL]
    uids.write_text(f"somebody:{DEFAULT_POOL[0]}:65536\n")
    assert pool_of(["sampan"]) == [(DEFAULT_POOL[0] + 65536, DEFAULT_POOL[1] - 65536)]
    uids.write_text("sampan:1000000:65536\n")
    gids.write_text("sampan:1030000:65536\n")
    assert pool_of(["sampan"]) == [(1030000, 35536)]
