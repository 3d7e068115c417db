"""Paths as a process inside a root sees them, for a caller outside that never follows them."""

from __future__ import annotations

import errno
import os

from sampan.linux.libc import error
from sampan.linux.paths import O_DIRECTORY, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

MAX_LINKS = 255  # as moby's symlink.FollowSymlinkInScope; the kernel itself stops at 40


def parts_of(path: bytes) -> list[bytes]:
    """Return the components of a path; "." and empty ones are left out."""
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def evaluate(root: int, path: bytes) -> bytes:
    """Return `path` (relative to `root`) with all links resolved, the last component too.

    Components that do not exist are kept as they are; `..` stops at the root. Raises OSError
    (ELOOP) for too many links.
    """
    waiting = parts_of(path)[::-1]
    done: list[bytes] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == b"..":
            done[-1:] = []
            continue
        target = _readlink(root, done, part)
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise error(errno.ELOOP, path)
        if target.startswith(b"/"):
            done.clear()
        waiting += parts_of(target)[::-1]
        if len(waiting) + len(done) > 4096:
            raise error(errno.ENAMETOOLONG, path)
    return b"/".join(done)


def _readlink(root: int, folder: list[bytes], name: bytes) -> bytes | None:
    """Return the target of a link; None for everything else, and for nothing."""
    try:
        where = b"/".join(folder) or b"."
        parent = openat2(root, where, O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as failure:
        if failure.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    finally:
        os.close(parent)
