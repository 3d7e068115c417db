"""What kind of file system something lies on, by the magic number of statfs(2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sampan.linux.mounts import filesystem_magic

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


def filesystem_name(path: Path) -> str:
    """Return the kind of file system that a path is on, "<unknown>" if it is not in the table."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return NAMES.get(filesystem_magic(fd) & 0xFFFFFFFF, "<unknown>")
    finally:
        os.close(fd)
