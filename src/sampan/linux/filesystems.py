"""What kind of file system something lies on, by the magic number of statfs(2)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from sampan.linux.libc import NR, syscall
from sampan.linux.mounts import filesystem_magic

_DT_UNKNOWN: Final = 0  # dirent.h

# linux/magic.h, and for those outside the kernel their own sources. The names are those that
# Docker shows as "Backing Filesystem".
NAMES: Final = {
    0x01021994: "tmpfs",
    0x01161970: "gfs2",
    0x2FC12FC1: "zfs",
    0x47504653: "gpfs",
    0x52654973: "reiserfs",
    0x58465342: "xfs",
    0x6969: "nfs",
    0x65735546: "fuse",
    0x794C7630: "overlayfs",
    0x9123683E: "btrfs",
    0xCA451A4E: "bcachefs",
    0xEF53: "extfs",
    0xF15F: "ecryptfs",
    0xF2F52010: "f2fs",
    0xFF534D42: "cifs",
}


def has_kinds(folder: Path) -> bool:
    """Tell whether directory entries say what they are (d_type), which overlay relies on.

    Source: readdir(3), getdents(2): struct linux_dirent64; d_type is its 19th byte.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        entries = ctypes.create_string_buffer(4096)
        end, at = syscall(NR["getdents64"], fd, entries, len(entries)), 0
        while at < end:
            if entries.raw[at + 18] == _DT_UNKNOWN:
                return False
            at += int.from_bytes(entries.raw[at + 16 : at + 18], "little")
        return True
    finally:
        os.close(fd)


def filesystem_name(path: Path) -> str:
    """Return the kind of file system that a path is on, "<unknown>" if it is not in the table."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return NAMES.get(filesystem_magic(fd) & 0xFFFFFFFF, "<unknown>")
    finally:
        os.close(fd)
