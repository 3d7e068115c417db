from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.registry.endpoints.blobs import PATHSEND, Part, parse_range
from sampan.registry.errors import RegistryError
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from tests.own_registry import Shop, serving, sha

DATA = bytes(range(256)) * 4


def test_a_blob_is_sent_with_its_digest_and_length(shop: Shop) -> None:
    digest = shop.push_blob("team/app", DATA)
    for method, body in (("GET", DATA), ("HEAD", b"")):
        answer = shop.ask(method, f"/v2/team/app/blobs/{digest}")
        assert (answer.status, answer.body) == (200, body)
        assert answer.header("content-length") == str(len(DATA))
        assert answer.header("docker-content-digest") == digest
        assert answer.header("content-type") == "application/octet-stream"
        assert answer.header("accept-ranges") == "bytes"


def test_an_empty_blob_is_a_blob(shop: Shop) -> None:
    digest = shop.push_blob("team/app", b"")
    answer = shop.get(f"/v2/team/app/blobs/{digest}")
    assert (answer.status, answer.header("content-length"), answer.body) == (200, "0", b"")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_unknown_blob_is_told(shop: Shop, method: str) -> None:
    shop.push_blob("team/other", DATA)
    answer = shop.ask(method, f"/v2/team/app/blobs/{sha(DATA)}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


def test_a_blob_that_was_not_pushed_to_a_repository_is_not_there(shop: Shop) -> None:
    digest = shop.push_blob("team/other", DATA)
    shop.push_blob("team/app", b"something")
    assert shop.get(f"/v2/team/app/blobs/{digest}").status == 404


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=1000-", 1000, 1023), ("bytes=-24", 1000, 1023)]
    + [("bytes=1000-9999", 1000, 1023), ("bytes=0-0", 0, 0), ("bytes=-5000", 0, 1023)],
)
def test_a_part_of_a_blob_is_sent(shop: Shop, asked: str, first: int, last: int) -> None:
    digest = shop.push_blob("team/app", DATA)
    answer = shop.get(f"/v2/team/app/blobs/{digest}", range=asked)
    assert (answer.status, answer.body) == (206, DATA[first : last + 1])
    assert answer.header("content-range") == f"bytes {first}-{last}/1024"
    assert answer.header("content-length") == str(last - first + 1)


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_part_that_is_not_there_is_refused(shop: Shop, asked: str) -> None:
    digest = shop.push_blob("team/app", DATA)
    answer = shop.get(f"/v2/team/app/blobs/{digest}", range=asked)
    assert (answer.status, answer.code) == (416, "RANGE_INVALID")
    assert answer.header("content-range") == "bytes */1024"


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=9-3", "bytes=0-1,5-6", "bytes=-", "x"])
def test_what_is_no_single_range_is_answered_whole(shop: Shop, asked: str) -> None:
    digest = shop.push_blob("team/app", DATA)
    answer = shop.get(f"/v2/team/app/blobs/{digest}", range=asked)
    assert (answer.status, answer.body) == (200, DATA)


def test_a_part_of_another_blob_is_not_sent(shop: Shop) -> None:
    digest = shop.push_blob("team/app", DATA)
    answer = shop.get(f"/v2/team/app/blobs/{digest}", range="bytes=0-9", if_range='"other"')
    assert answer.status == 200


@given(st.text(max_size=40), st.integers(0, 1 << 40))
def test_any_range_is_a_part_of_the_blob_or_refused(text: str, size: int) -> None:
    for asked in (text, f"bytes={text}"):
        with contextlib.suppress(RegistryError):
            part = parse_range(asked, size)
            assert part is None or 0 <= part.first <= part.last < size


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_range_within_the_blob_is_what_was_asked(first: int, last: int) -> None:
    expected = Part(first, last) if first <= last else None
    assert parse_range(f"bytes={first}-{last}", 101) == expected


def test_who_has_the_blob_is_not_sent_it(shop: Shop) -> None:
    digest = shop.push_blob("team/app", DATA)
    for said in (f'"{digest}"', "*", digest):
        answer = shop.get(f"/v2/team/app/blobs/{digest}", if_none_match=said)
        assert (answer.status, answer.body) == (304, b"")
    unknown = f"/v2/team/app/blobs/{sha(b'unknown')}"
    assert shop.get(unknown, if_none_match="*").status == 404


def test_a_whole_blob_on_a_disk_is_sent_by_the_server(disk: Shop) -> None:
    large = DATA * 1000
    digest = disk.push_blob("team/app", large)
    url = f"/v2/team/app/blobs/{digest}"
    assert disk.ask("GET", url, extensions={PATHSEND: {}}).body == large
    assert disk.ask("GET", url).body == large
    part = disk.ask("GET", url, headers={"Range": "bytes=3-4"}, extensions={PATHSEND: {}})
    assert part.body == DATA[3:5]


def test_a_removed_blob_is_gone_from_its_repository_alone(shop: Shop) -> None:
    digest = shop.push_blob("team/app", DATA)
    shop.push_blob("team/other", DATA)
    assert shop.ask("DELETE", f"/v2/team/app/blobs/{digest}").status == 202
    assert shop.get(f"/v2/team/app/blobs/{digest}").status == 404
    assert shop.get(f"/v2/team/other/blobs/{digest}").status == 200


def test_nothing_is_removed_where_deletes_are_disabled() -> None:
    with Registry.in_memory() as registry, serving(registry, Service()) as shop:
        digest = shop.push("team/app", "1")
        for path in (f"blobs/{sha(b'layer')}", f"manifests/{digest}", "manifests/1"):
            answer = shop.ask("DELETE", f"/v2/team/app/{path}")
            assert (answer.status, answer.code) == (405, "UNSUPPORTED")
        assert shop.tags("team/app") == ["1"]


def test_a_blob_whose_file_was_cut_is_never_sent_short(disk: Shop, tmp_path: Path) -> None:
    digest = disk.push_blob("team/app", DATA)
    (path,) = tmp_path.glob("data/docker/**/data")
    with open(path, "r+b") as file:
        file.truncate(10)
    answer = disk.get(f"/v2/team/app/blobs/{digest}")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    disk.push_blob("team/app", DATA)
    assert disk.get(f"/v2/team/app/blobs/{digest}").body == DATA
