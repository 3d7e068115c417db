"""U and idmap: whose the files of a mount are."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.spec.ownership import on_host, split_ownership
from sampan.spec.runtime import LinuxIDMapping


def rows(maps: list[LinuxIDMapping]) -> list[tuple[int, int, int]]:
    return [(each.container_id, each.host_id, each.size) for each in maps]


def test_other_words_stay() -> None:
    rest, found = split_ownership("ro,idmap,rprivate")
    assert (rest, found.owner, found.chown) == (["ro", "rprivate"], True, False)
    assert split_ownership("U,z")[1].chown
    assert split_ownership("rw")[1].is_plain
    assert split_ownership("") == ([], split_ownership("rw")[1])


def test_explicit_maps_are_podmans() -> None:
    _, found = split_ownership("idmap=uids=0-1-10#10-11-10;gids=@0-100-10")
    assert rows(found.uids) == [(0, 1, 10), (10, 11, 10)]
    assert rows(found.gids) == [(0, 100, 10)]
    assert found.inside == {"gids"}


def test_ids_that_are_not_spoken_of_stay_as_they_are() -> None:
    assert rows(split_ownership("idmap=uids=5-6-1")[1].gids) == [(0, 0, (1 << 32) - 1)]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("U,idmap", "exclude each other"),
        ("idmap,idmap=uids=0-1-1", "exclude each other"),
        ("idmap=", "an idmap is uids="),
        ("idmap=0-1-1", "an idmap is uids="),
        ("idmap=uids=0-1-1;uids=5-6-1", "an idmap is uids="),
        ("idmap=uids=0-1", "is not DISK-HOST-SIZE"),
        ("idmap=uids=0-1-0", "impossible ids"),
        ("idmap=uids=1-4294967294-2", "impossible ids"),
        ("idmap=uids=a-1-1", "is not DISK-HOST-SIZE"),
    ],
)
def test_what_cannot_be_is_refused_with_the_mode(mode: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason) as refused:
        split_ownership(mode)
    assert f"invalid mode: {mode}" in str(refused.value)


def test_ids_of_a_container_are_found_on_the_host() -> None:
    own = [
        LinuxIDMapping(container_id=0, host_id=100_000, size=1000),
        LinuxIDMapping(container_id=1000, host_id=7, size=1),
    ]
    wanted = [LinuxIDMapping(container_id=500, host_id=998, size=5)]
    assert rows(on_host(wanted, own)) == [(500, 100_998, 2), (502, 7, 1)]
    assert on_host(wanted, []) == wanted


@given(st.text(alphabet="idmap=uidsg;@0123456789-#,Urow", max_size=40))
def test_no_text_raises_anything_else(text: str) -> None:
    for prefix in ("", "idmap=uids="):
        with contextlib.suppress(InvalidArgument):
            split_ownership(prefix + text)
