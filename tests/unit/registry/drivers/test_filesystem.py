from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sampan.registry.drivers.driver import File
from sampan.registry.drivers.filesystem import TRASH, FilesystemDriver


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FilesystemDriver(str(tmp_path))
    driver.write([("a/old", b"old")])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        driver.stage([File("a/old", b"new"), File("b/new", b"x")])
    assert driver.read("a/old") == b"old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["old"]


def test_what_a_removal_left_half_is_gone_with_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / TRASH / "x" / "y"
    left.mkdir(parents=True)
    FilesystemDriver(str(tmp_path))
    assert list((tmp_path / TRASH).iterdir()) == []


def test_temporary_files_are_not_listed(tmp_path: Path) -> None:
    driver = FilesystemDriver(str(tmp_path))
    driver.write([("a/b", b"")])
    (tmp_path / "a/b.0123.tmp").write_bytes(b"")
    assert driver.list("a") == ["b"]
