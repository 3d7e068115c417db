"""How two trees of files differ: every path that was added, changed or is missing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final, Literal

from sampan.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from sampan.linux.trees import Node, Walk

Kind = Literal[0, 1, 2]  # Docker's numbers
MODIFIED: Final = 0
ADDED: Final = 1
DELETED: Final = 2
Found = dict[bytes, Kind]
Altered = Callable[[Node, int, os.stat_result], bool]
_AT_ONCE: Final = 1 << 18


def compare(new: int, old: int | None, altered: Altered | None = None) -> Found:
    """Return how all of the tree `new` differs from `old`; None stands for an empty one.

    `altered` is asked about what looks the same.
    """
    found: Found = {}
    for node in Walk(new):
        before = before_of(old, node.path)
        if old is None or before is None:
            found[node.path] = ADDED
        elif differ(before, node.status) or (altered and altered(node, old, before)):
            found[node.path] = MODIFIED
    if old is not None:
        walk = Walk(old)
        for node in walk:
            now = before_of(new, node.path)
            if now is None:
                found[node.path] = DELETED
                walk.prune()
            elif not stat.S_ISDIR(now.st_mode):
                walk.prune()
    return found


def before_of(root: int | None, path: bytes) -> os.stat_result | None:
    """Return what a path in a tree is; None if it is nothing."""
    if root is None:
        return None
    try:
        flags = os.O_PATH | os.O_NOFOLLOW
        fd = openat2(root, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError:
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def differ(old: os.stat_result, new: os.stat_result) -> bool:
    """Tell whether something looks different, by what stat(2) says."""
    if (
        old.st_mode != new.st_mode
        or old.st_uid != new.st_uid
        or old.st_gid != new.st_gid
        or old.st_rdev != new.st_rdev
    ):
        return True
    # The size and time of a directory say nothing about it: moby#9874.
    if stat.S_ISDIR(new.st_mode):
        return False
    return old.st_size != new.st_size or not _same_time(old.st_mtime_ns, new.st_mtime_ns)


def altered(node: Node, old: int, before: os.stat_result) -> bool:
    """Tell whether what looks the same in a snapshot has other content or attributes.

    Only what was changed at all is read: its time of change is not that of the original.
    """
    now = node.status
    if (now.st_ino, now.st_ctime_ns) == (before.st_ino, before.st_ctime_ns):
        return False
    if not stat.S_ISREG(now.st_mode):
        return stat.S_ISLNK(now.st_mode) and now.st_ino != before.st_ino
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with ExitStack() as undo, suppress(OSError):  # it may vanish meanwhile
        one = openat2(old, node.path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        undo.callback(os.close, one)
        other = os.open(node.name, flags, dir_fd=node.folder)
        undo.callback(os.close, other)
        return _attributes(one) != _attributes(other) or not _same_content(one, other)
    return True


def _attributes(fd: int) -> dict[str, bytes]:
    return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}


def _same_content(one: int, other: int) -> bool:
    while (data := os.read(one, _AT_ONCE)) == os.read(other, _AT_ONCE):
        if not data:
            return True
    return False


def _same_time(one: int, other: int) -> bool:
    """Archives have whole seconds: a time without a fraction equals all of its second."""
    if one == other:
        return True
    return one // 10**9 == other // 10**9 and (not one % 10**9 or not other % 10**9)
