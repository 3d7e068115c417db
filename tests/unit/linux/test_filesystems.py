"""What file systems are asked, and told."""

from __future__ import annotations

import os
from fcntl import ioctl
from pathlib import Path

import pytest

from sampan.linux.filesystems import filesystem_name, spread_children


def test_folders_are_spread_where_the_file_system_can(tmp_path: Path) -> None:
    spread_children(tmp_path)
    spread_children(tmp_path)
    if filesystem_name(tmp_path) != "extfs":
        pytest.skip("only ext4 has the flag")
    fd = os.open(tmp_path, os.O_RDONLY)
    flags = bytearray(8)
    ioctl(fd, 0x80086601, flags)  # FS_IOC_GETFLAGS
    os.close(fd)
    assert int.from_bytes(flags[:4], "little") & 0x20000


def test_file_systems_without_the_flag_are_left_alone() -> None:
    spread_children(Path("/proc"))
    spread_children(Path("/dev/shm"))
