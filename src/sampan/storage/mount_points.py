"""What every container finds besides its image: the places that the runtime mounts something on.

They lie between image and container, so that none of them counts as a change of the container.
Source: moby daemon/initlayer/setup_unix.go (which places, which kinds, what they replace).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from sampan.linux.trees import DIRECTORY

FOLDERS: Final = (b"dev/pts", b"dev/shm", b"proc", b"sys")
FILES: Final = (
    *(b".dockerenv", b"dev/console"),
    *(b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"),
)
LINKS: Final = {b"etc/mtab": b"/proc/mounts"}
_MODE: Final = 0o755


def make_mount_points(root: int) -> None:
    """Make the places below a directory; what an image has there stays only if it is a folder.

    An image may have links on the way: they are replaced, never followed.
    """
    for path in (*FOLDERS, *FILES, *LINKS):
        *parents, name = path.split(b"/")
        folder = os.open(b".", DIRECTORY, dir_fd=root)
        try:
            for parent in parents:
                folder = _enter(folder, parent)
            _make(folder, name, path)
        finally:
            os.close(folder)


def _enter(folder: int, name: bytes) -> int:
    """Close `folder` and return the one called `name` in it, made if it is missing."""
    _clear(folder, name)
    with suppress(FileExistsError):
        os.mkdir(name, _MODE, dir_fd=folder)
    below = os.open(name, DIRECTORY, dir_fd=folder)
    os.close(folder)
    return below


def _make(folder: int, name: bytes, path: bytes) -> None:
    _clear(folder, name)
    with suppress(FileExistsError):
        if path in FOLDERS:
            os.mkdir(name, _MODE, dir_fd=folder)
        elif path in LINKS:
            os.symlink(LINKS[path], name, dir_fd=folder)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, _MODE, dir_fd=folder))


def _clear(folder: int, name: bytes) -> None:
    """Remove what is no folder."""
    with suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(name, dir_fd=folder)
