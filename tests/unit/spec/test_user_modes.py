"""--userns as users write it, and the maps that it means."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.spec.runtime import LinuxIDMapping
from sampan.spec.user_modes import UserMode, maps_of_range, parse_user_mode, spread


def rows(maps: list[LinuxIDMapping]) -> list[tuple[int, int, int]]:
    return [(each.container_id, each.host_id, each.size) for each in maps]


@pytest.mark.parametrize("text", ["", "host", "auto"])
def test_the_plain_modes(text: str) -> None:
    assert parse_user_mode(text) == UserMode(text)


def test_a_range_has_a_size_and_chosen_ids() -> None:
    mode = parse_user_mode("auto:size=2000,uidmapping=1000:500:2,gidmapping=0:7:1")
    maps = maps_of_range(100_000, mode)
    assert mode.size == 2000
    assert rows(maps.uids) == [(0, 100_000, 1000), (1000, 500, 2), (1002, 101_002, 998)]
    assert rows(maps.gids) == [(0, 7, 1), (1, 100_001, 1999)]


def test_a_chosen_id_may_lie_beyond_the_range() -> None:
    chosen = [LinuxIDMapping(container_id=9, host_id=5, size=2)]
    assert rows(spread(100, 4, chosen)) == [(0, 100, 4), (9, 5, 2)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("private", "invalid user namespace mode: private"),
        ("host:x", "invalid user namespace mode"),
        ("auto:", "invalid user namespace mode"),
        ("auto:size=0", "size must be positive"),
        ("auto:size=99999999999", "is not a number"),
        ("auto:size=4294967295", "size must be positive"),
        ("auto:size=-1", "is not a number"),
        ("auto:size=٣", "is not a number"),
        ("auto:color=red", "unknown option 'color'"),
        ("auto:uidmapping=1:2", "is not CONTAINER:HOST:SIZE"),
        ("auto:uidmapping=1:2:0", "impossible ids"),
        ("auto:gidmapping=1:4294967294:2", "impossible ids"),
        ("auto:uidmapping=1:50:9,uidmapping=5:90:1", "mapped twice"),
        ("auto:uidmapping=1:50:9,uidmapping=50:55:1", "mapped twice"),
        ("keep-id", "use auto:uidmapping=1000:1000:1"),
        ("keep-id:uid=5", "rootless"),
        ("container:x", "invalid user namespace mode: container:x"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        parse_user_mode(text)


@given(st.text(alphabet="autohsiz=:,udgmpn0123456789ek-", max_size=40))
def test_no_text_raises_anything_else(text: str) -> None:
    for prefix in ("", "auto:", "auto:uidmapping="):
        with contextlib.suppress(InvalidArgument):
            parse_user_mode(prefix + text)


@given(
    st.integers(1, 200),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 30)), max_size=5),
)
def test_a_map_names_each_id_once(size: int, pieces: list[tuple[int, int]]) -> None:
    chosen = [
        LinuxIDMapping(container_id=inside, host_id=10_000 + 1000 * number, size=length)
        for number, (inside, length) in enumerate(pieces)
    ]
    try:
        found = spread(1_000_000, size, chosen)
    except InvalidArgument:
        return  # they overlap
    ids = [each.container_id + n for each in found for n in range(each.size)]
    assert len(ids) == len(set(ids))
    assert set(range(size)) <= set(ids)
