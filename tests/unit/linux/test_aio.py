"""Files are synced at once, and each that fails is told of."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from sampan.linux import aio
from sampan.linux.libc import NR


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    """More files than are synced at once."""
    with ExitStack() as opened:
        made = [opened.enter_context((tmp_path / str(n)).open("wb")) for n in range(aio.SLOTS + 3)]
        yield [file.fileno() for file in made]


@pytest.fixture
def pipe() -> Iterator[int]:
    """What cannot be synced."""
    ends = os.pipe()
    yield ends[1]
    for end in ends:
        os.close(end)


def test_any_number_of_files_is_synced(files: list[int], tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for many in ([], files[:1], files[:2], [folder, *files]):
            aio.fsync(many)
    finally:
        os.close(folder)


@pytest.mark.parametrize("place", [0, 1, aio.SLOTS + 2])
def test_a_file_that_fails_is_told_of(files: list[int], pipe: int, place: int) -> None:
    files[place] = pipe
    with pytest.raises(OSError) as caught:
        aio.fsync(files)
    assert caught.value.errno == errno.EINVAL
    aio.fsync(files[:place] + files[place + 1 :])


@pytest.mark.parametrize("call", ["io_setup", "io_submit"])
def test_files_are_synced_one_by_one_where_the_kernel_does_not_take_many(
    files: list[int], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setitem(NR, call, 100_000)  # ENOSYS
    thread = Thread(target=aio.fsync, args=(files,))  # which has no context yet
    thread.start()
    thread.join()
    assert synced == files


def test_a_process_that_is_forked_has_no_part_in_what_its_parent_has(
    files: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    aio.fsync(files)
    ours = aio._context()
    assert aio._context() is ours
    monkeypatch.setattr(os, "getpid", lambda: 0)
    assert aio._context() is not ours
