"""Mounts by descriptor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.linux import mounts as m
from tests.session import own_mounts


def test_the_magic_number_tells_the_file_system() -> None:
    for path, magic in (("/proc", m.PROC_SUPER_MAGIC), ("/sys", m.SYSFS_MAGIC)):
        fd = os.open(path, os.O_PATH)
        assert m.filesystem_magic(fd) == magic
        os.close(fd)


def test_mount_ids_are_those_of_mountinfo() -> None:
    fd = os.open("/proc", os.O_PATH)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    expected = [line.split()[0] for line in lines if line.split()[4] == "/proc"]
    assert str(m.mount_id(fd)) in expected
    assert m.is_mount_root(fd)
    os.close(fd)


def names(mount: int) -> list[str]:
    """Return what is in the root of a mount, whose own descriptor is O_PATH."""
    fd = os.open(".", os.O_RDONLY, dir_fd=mount)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


@pytest.mark.privileged
def test_a_detached_file_system_can_be_used_before_it_is_mounted() -> None:
    before = own_mounts()
    mount = m.new_filesystem(b"tmpfs", [(b"size", b"64k"), (b"mode", b"700")], m.MOUNT_ATTR_NOEXEC)
    try:
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=mount))
        assert names(mount) == ["file"]
        assert os.fstatvfs(mount).f_flag & os.ST_NOEXEC
        m.mount_setattr(mount, b"", m.AT_EMPTY_PATH, m.MOUNT_ATTR_RDONLY)
        with pytest.raises(OSError, match="Read-only"):
            os.open("other", os.O_CREAT | os.O_WRONLY, dir_fd=mount)
        copy = m.clone_tree(mount) if os.uname().release >= "6.15" else os.dup(mount)
        assert names(copy) == ["file"]
        os.close(copy)
    finally:
        os.close(mount)
    assert own_mounts() == before


@pytest.mark.privileged
@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (b"nosuchfs", [], "No such device"),
        (b"tmpfs", [(b"size", b"much")], "Invalid argument"),
        (b"tmpfs", [(b"no-such-option", None)], "Invalid argument"),
    ],
)
def test_a_refused_file_system_leaves_no_descriptor(
    kind: bytes, parameters: list[tuple[bytes, bytes | None]], message: str
) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=message):
        m.new_filesystem(kind, parameters)
    assert os.listdir("/proc/self/fd") == before
