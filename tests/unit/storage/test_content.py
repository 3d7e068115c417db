"""The content store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import Digest, digest_of
from sampan.storage.content import ContentStore


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_content_is_found_by_its_digest(store: ContentStore) -> None:
    digest = store.ingest([b"hel", b"lo"])
    assert digest == digest_of(b"hello")
    assert store.has(digest)
    assert store.read(digest) == b"hello"
    assert store.size(digest) == 5
    assert list(store) == [digest]
    assert store.verify(digest)


def test_the_same_content_is_stored_once(store: ContentStore, tmp_path: Path) -> None:
    assert store.add(b"x") == store.add(b"x")
    assert len(files(tmp_path)) == 1


def test_content_that_is_not_what_was_expected_leaves_nothing(
    store: ContentStore, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match="unexpected commit digest"):
        store.ingest([b"x"], digest_of(b"y"))
    with pytest.raises(InvalidArgument, match="unexpected commit size 1, expected 2"):
        store.ingest([b"x"], size=2)
    with pytest.raises(InvalidArgument, match="unexpected commit size"):
        store.ingest((b"x" for _ in range(10**9)), size=3)
    assert files(tmp_path) == []


def test_a_writer_that_is_not_committed_leaves_nothing(store: ContentStore, tmp_path: Path) -> None:
    with store.writer() as writer:
        writer.write(b"half")
    assert files(tmp_path) == []


def test_what_a_crash_left_is_gone_after_a_restart(store: ContentStore, tmp_path: Path) -> None:
    digest = store.add(b"whole")
    (tmp_path / "content/ingest/half").write_bytes(b"ha")
    assert list(ContentStore(tmp_path)) == [digest]
    assert len(files(tmp_path)) == 1


def test_damage_is_noticed(store: ContentStore, tmp_path: Path) -> None:
    digest = store.add(b"content")
    path = next((tmp_path / "content/blobs/sha256").iterdir())
    path.write_bytes(b"c0ntent")
    assert not store.verify(digest)


def test_what_is_not_there_is_not_found(store: ContentStore) -> None:
    digest = digest_of(b"nothing")
    for call in (store.open, store.read, store.size):
        with pytest.raises(NotFound):
            call(digest)
    store.delete(digest)


@pytest.mark.parametrize("name", ["sha256:../../x", "md5:abc", "sha256:", "x"])
def test_what_is_no_digest_names_no_file(store: ContentStore, name: str) -> None:
    with pytest.raises(InvalidArgument):
        store.has(Digest(name))


def test_a_document_has_a_limit(store: ContentStore) -> None:
    digest = store.add(b"x" * 100)
    with pytest.raises(InvalidArgument, match="larger than 99"):
        store.read(digest, limit=99)


def test_the_store_is_closed_to_others(store: ContentStore, tmp_path: Path) -> None:
    store.add(b"x")
    blob = next((tmp_path / "content/blobs/sha256").iterdir())
    assert blob.stat().st_mode & 0o077 == 0


def test_a_scratch_file_has_no_name(store: ContentStore, tmp_path: Path) -> None:
    fd = store.scratch()
    os.write(fd, b"x")
    assert files(tmp_path) == []
    os.close(fd)
