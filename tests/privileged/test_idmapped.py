"""Bind mounts that a user namespace maps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.errors import Unsupported
from sampan.storage.idmapped import bound

pytestmark = pytest.mark.privileged


def folder(path: Path) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def test_a_mount_that_cannot_be_mapped_leaves_nothing_open(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with open("/dev/null") as no_namespace, pytest.raises(Unsupported):
        bound(folder(tmp_path), tmp_path, no_namespace.fileno(), read_only=False)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_mount_may_be_read_only(tmp_path: Path) -> None:
    mount = bound(folder(tmp_path), tmp_path, -1, read_only=True)
    try:
        with pytest.raises(OSError, match="Read-only"):
            os.open("new", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)
    assert list(tmp_path.iterdir()) == []
