"""/etc/subuid: whose ids are whose."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sampan.linux.subids import common, ranges, without

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=4)


def ids(listed: list[tuple[int, int]]) -> set[int]:
    return {first + n for first, count in listed for n in range(count)}


def test_an_owner_is_a_name_or_an_id(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("me:100000:65536\n1000:300000:10\n\n# no\nme:1:x\nme:9:0\nother:500000:5\n")
    assert ranges(file, ["me"]) == [(100000, 65536)]
    assert ranges(file, ["me", "1000"]) == [(100000, 65536), (300000, 10)]
    assert len(ranges(file)) == 3


def test_a_machine_without_the_file_has_no_ranges(tmp_path: Path) -> None:
    assert ranges(tmp_path / "subuid") == []


def test_a_range_beyond_all_ids_is_none(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("me:4294967295:2\nme:99999999999:1\n")
    assert ranges(file) == []


@given(RANGES, RANGES)
def test_common_ids_are_in_both(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    assert ids(common(one, other)) == ids(one) & ids(other)


@given(RANGES, RANGES)
def test_what_is_left_has_nothing_of_others(
    given: list[tuple[int, int]], taken: list[tuple[int, int]]
) -> None:
    assert ids(without(given, taken)) == ids(given) - ids(taken)
