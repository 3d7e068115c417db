"""What a killed keeper leaves behind for its successor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.runtime.spawning.journal import CHUNK, NO_SLOT, Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def pipe_with(data: bytes) -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.write(write, data)
    return read, write


def test_it_reads_what_is_there(path: Path) -> None:
    read, write = pipe_with(b"hello")
    journal = Journal(path)
    assert journal.read(read, 0, 0) == b"hello"
    journal.done()
    with pytest.raises(BlockingIOError):
        journal.read(read, 0, 0)
    os.close(write)
    assert journal.read(read, 0, 0) == b""
    os.close(read)


def test_what_was_read_and_not_finished_is_found_by_the_next(path: Path) -> None:
    read, write = pipe_with(b"hello")
    Journal(path).read(read, 6, 1234)
    left = Journal(path).unfinished()
    assert left
    assert (left.slot, left.data, left.log_size) == (6, b"hello", 1234)
    os.close(read)
    os.close(write)


def test_what_was_finished_is_not(path: Path) -> None:
    read, write = pipe_with(b"hello")
    journal = Journal(path)
    journal.read(read, 6, 1234)
    journal.done()
    assert Journal(path).unfinished() is None
    os.close(read)
    os.close(write)


def test_a_read_that_did_not_happen_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = pipe_with(b"hello")

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "readv", killed)
    with pytest.raises(KeyboardInterrupt):
        Journal(path).read(read, 6, 0)
    monkeypatch.undo()
    assert Journal(path).unfinished() is None
    assert Journal(path).read(read, 6, 0) == b"hello"
    os.close(read)
    os.close(write)


def test_the_remainder_of_a_stream_is_kept(path: Path) -> None:
    read, write = pipe_with(b"x")
    journal = Journal(path)
    journal.read(read, 2, 0)
    journal.keep(2, b"no newline yet")
    journal.done()
    next_one = Journal(path)
    assert next_one.rest(2) == b"no newline yet"
    assert next_one.rest(3) == b""
    next_one.forget(2)
    assert next_one.rest(2) == b""
    os.close(read)
    os.close(write)


def test_unfinished_work_finds_the_remainder_from_before(path: Path) -> None:
    read, write = pipe_with(b"one")
    journal = Journal(path)
    journal.read(read, 2, 0)
    journal.keep(2, b"one")
    journal.done()
    os.write(write, b"two")
    journal.read(read, 2, 0)
    journal.keep(2, b"onetwo")  # killed before `done`: this remainder must not count
    following = Journal(path)
    left = following.unfinished()
    assert left
    assert (following.rest(2), left.data) == (b"one", b"two")
    os.close(read)
    os.close(write)


def test_streams_alternate_without_overwriting_the_copy_that_counts(path: Path) -> None:
    read, write = pipe_with(b"")
    journal = Journal(path)
    for number in range(1, 8):
        for slot in (2, 3):
            os.write(write, b"z")
            journal.read(read, slot, 0)
            journal.keep(slot, b"%d-%d" % (slot, number))
            journal.done()
            assert Journal(path).rest(slot) == b"%d-%d" % (slot, number)
    os.close(read)
    os.close(write)


def test_a_stream_without_a_slot_is_read_all_the_same(path: Path) -> None:
    read, write = pipe_with(b"data")
    journal = Journal(path)
    assert journal.read(read, NO_SLOT, 0) == b"data"
    journal.keep(NO_SLOT, b"rest")
    assert journal.rest(NO_SLOT) == b""
    os.close(read)
    os.close(write)


def test_it_uses_little_disk(path: Path) -> None:
    Journal(path)
    about = path.stat()
    assert about.st_size > 64 << 20
    assert about.st_blocks * 512 < 4 * CHUNK


def test_clear_forgets_all(path: Path) -> None:
    read, write = pipe_with(b"hello")
    journal = Journal(path)
    journal.read(read, 6, 0)
    journal.keep(6, b"hello")
    journal.clear()
    assert Journal(path).unfinished() is None
    assert Journal(path).rest(6) == b""
    os.close(read)
    os.close(write)
