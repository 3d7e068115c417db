"""Directories get their modes and times at the end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.storage.layers import folder_times
from sampan.storage.layers.folder_times import FolderTimes


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    for name in ("a", "a/b", "c"):
        (tmp_path / name).mkdir(mode=0o755)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("in_memory", [1, 1 << 20])
def test_what_is_said_last_counts(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    monkeypatch.setattr(folder_times, "_IN_MEMORY", in_memory)
    times = FolderTimes(root)
    times.add(b"a", 0o700, 1)
    times.add(b"a/b", None, 2)
    times.add(b"gone", 0o700, 3)
    times.add(b"gone/x", 0o700, 3)
    times.add(b"c", 0o1777, 4)
    times.add(b"a", 0o750, 10**18)
    times.apply()
    times.close()
    found = {name: (tmp_path / name).stat() for name in ("a", "a/b", "c")}
    assert [stat.S_IMODE(status.st_mode) for status in found.values()] == [0o750, 0o755, 0o1777]
    assert [status.st_mtime_ns for status in found.values()] == [10**18, 2, 4]


def test_what_took_the_place_of_a_directory_is_left_alone(root: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("c")
    (tmp_path / "file").touch()
    before = (tmp_path / "c").stat().st_mtime_ns
    times = FolderTimes(root)
    for name in (b"link", b"file", b"file/x"):
        times.add(name, 0, 1)
    times.apply()
    times.close()
    assert (tmp_path / "c").stat().st_mtime_ns == before
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) != 0
