"""What a btrfs snapshot changed, by the transactions in which its inodes were written.

Only what was changed is looked at, not the whole image: each inode says in which transaction it was
changed last, and blocks of the tree that the snapshot still shares with its parent are skipped by
the kernel. Needs CAP_SYS_ADMIN in the first user namespace.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from sampan.linux import btrfs
from sampan.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from sampan.linux.trees import DIRECTORY, Node
from sampan.storage.layers.comparing import (
    ADDED,
    DELETED,
    MODIFIED,
    Found,
    altered,
    before_of,
    compare,
    differ,
)

# Source: include/uapi/linux/btrfs_tree.h
_INODE_ITEM: Final = 1
_INODE_REF: Final = 12
_INODE_EXTREF: Final = 13
_LAST_INODE: Final = (1 << 64) - 256
_INODE: Final = struct.Struct("=8xQ36xI")  # struct btrfs_inode_item: transid, mode
_REF: Final = struct.Struct("=8xH")  # struct btrfs_inode_ref: length of the name
_EXTREF: Final = struct.Struct("=Q8xH")  # struct btrfs_inode_extref: parent, length of the name
_ROOT: Final = btrfs.BTRFS_FIRST_FREE_OBJECTID
_INSIDE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def changed_paths(new: int, old: int) -> set[bytes] | None:
    """Return paths of a snapshot that may differ from its original `old`; all that do are there.

    A directory stands for itself and for the names in it, not for what is below those. None if
    that cannot be told here.
    """
    try:
        if btrfs.subvolume_id(new) == btrfs.subvolume_id(old):
            return None
        btrfs.commit_transaction(new)
        return _Search(new).paths()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTTY, errno.ENAMETOOLONG, errno.EOPNOTSUPP):
            return None
        raise


class _Search:
    def __init__(self, subvolume: int) -> None:
        self._subvolume = subvolume
        self._folders: dict[int, bytes | None] = {_ROOT: b""}

    def paths(self) -> set[bytes]:
        found: set[bytes] = set()
        for number, mode in self._inodes():
            if stat.S_ISDIR(mode):
                if (path := self._folder(number)) is not None:
                    found.add(path)
            else:
                found.update(self._names(number))
        return found

    def _inodes(self) -> Iterator[tuple[int, int]]:
        """Yield number and mode of all inodes that were changed since the snapshot was made."""
        since = btrfs.created_at(self._subvolume) + 1  # it was made when that one was committed
        first, last = (_ROOT, 0, 0), (_LAST_INODE, 255, (1 << 64) - 1)
        for (number, kind, _), item in btrfs.search_tree(self._subvolume, 0, first, last, since):
            if kind == _INODE_ITEM:
                transaction, mode = _INODE.unpack_from(item)
                if transaction >= since:
                    yield number, mode

    def _folder(self, number: int) -> bytes | None:
        """Return the path of a directory; None if it was removed."""
        if number not in self._folders:
            try:
                self._folders[number] = btrfs.path_of(self._subvolume, number)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                self._folders[number] = None
        return self._folders[number]

    def _names(self, number: int) -> Iterator[bytes]:
        """Yield all paths of a file."""
        first, last = (number, _INODE_REF, 0), (number, _INODE_EXTREF, (1 << 64) - 1)
        for (_, kind, offset), item in btrfs.search_tree(self._subvolume, 0, first, last):
            at = 0
            while at < len(item):
                parent = offset
                if kind == _INODE_REF:
                    (length,) = _REF.unpack_from(item, at)
                    at += _REF.size
                else:
                    parent, length = _EXTREF.unpack_from(item, at)
                    at += _EXTREF.size
                folder = self._folder(parent)
                if folder is not None:
                    yield _joined(folder, item[at : at + length])
                at += length


class _Comparison:
    """Compares what may have changed with the original, path by path."""

    def __init__(self, new: int, old: int) -> None:
        self._new, self._old = new, old
        self.found: Found = {}

    def look_at(self, node: Node) -> None:
        """Compare one path that is what it was, and the names in it; others belong to a parent."""
        before = before_of(self._old, node.path)
        if before is None or before.st_ino != node.status.st_ino:
            return  # the directory that it is in has a new name, or a name for something else
        if differ(before, node.status) or altered(node, self._old, before):
            self.found[node.path] = MODIFIED
        if node.is_folder:
            self.compare_names(node.path)

    def compare_names(self, path: bytes) -> None:
        """Compare the names in a directory that is one in both trees."""
        try:
            now, then = _listed(self._new, path), _listed(self._old, path)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return
        for name in then - now:
            self.found[_joined(path, name)] = DELETED
        for node in nodes(self._new, {_joined(path, name) for name in now}):
            before = before_of(self._old, node.path) if node.name in then else None
            if before is None:
                self._add(node)
            elif before.st_ino != node.status.st_ino:
                self._replace(node, before)

    def _add(self, node: Node) -> None:
        self.found[node.path] = ADDED
        self._within(node, lambda folder: compare(folder, None))

    def _replace(self, node: Node, before: os.stat_result) -> None:
        if differ(before, node.status) or altered(node, self._old, before):
            self.found[node.path] = MODIFIED
        if not stat.S_ISDIR(before.st_mode):
            self._within(node, lambda folder: compare(folder, None))
            return

        def both(folder: int) -> Found:
            old = openat2(self._old, node.path, DIRECTORY, 0, _INSIDE)
            try:
                return compare(folder, old, altered)
            finally:
                os.close(old)

        self._within(node, both)

    def _within(self, node: Node, differences: Callable[[int], Found]) -> None:
        """Note the differences below a node, if it is a directory."""
        if not node.is_folder:
            return
        with suppress(FileNotFoundError, NotADirectoryError):
            folder = os.open(node.name, DIRECTORY, dir_fd=node.folder)
            try:
                for path, kind in differences(folder).items():
                    self.found[_joined(node.path, path)] = kind
            finally:
                os.close(folder)


def compare_snapshot(new: int, old: int | None) -> Found:
    """Return how a snapshot differs from what it was made of; None stands for nothing."""
    paths = None if old is None else changed_paths(new, old)
    if old is None or paths is None:
        return compare(new, old, altered)
    comparison = _Comparison(new, old)
    if b"" in paths:
        comparison.compare_names(b"")
    for node in nodes(new, paths - {b""}):
        comparison.look_at(node)
    return comparison.found


def nodes(root: int, paths: Iterable[bytes]) -> Iterator[Node]:
    """Yield what paths of a tree are, in the order of a walk; what is not there is left out."""
    folder, opened = b"", os.dup(root)
    try:
        for path in sorted(paths, key=lambda path: path.split(b"/")):
            above, _, name = path.rpartition(b"/")
            try:
                if above != folder:
                    fd = openat2(root, above or b".", DIRECTORY, 0, _INSIDE)
                    os.close(opened)
                    folder, opened = above, fd
                status = os.stat(name, dir_fd=opened, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                continue
            yield Node(path, opened, name, status)
    finally:
        os.close(opened)


def _listed(root: int, path: bytes) -> set[bytes]:
    fd = openat2(root, path or b".", DIRECTORY, 0, _INSIDE)
    try:
        return set(map(os.fsencode, os.listdir(fd)))
    finally:
        os.close(fd)


def _joined(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
