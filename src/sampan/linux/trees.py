"""Whole directory trees by descriptor: walk, remove, copy, measure.

The trees are hostile: as deep as the kernel allows, and, below a running container, changed while
they are read. Nothing is ever resolved through a symbolic link, and the number of descriptors
and stack frames does not grow with the depth.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from typing import Final

from sampan.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OPEN_LEVELS: Final = 64
_SHALLOW: Final = 48  # levels that are removed in place; deeper folders are first moved up
_ATTEMPTS: Final = 100  # to remove a tree in which another process still makes files
_SMALL: Final = 64 << 10  # bytes
_FICLONE: Final = 0x40049409  # linux/fs.h
_SPECIAL: Final = (stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK)
_VANISHED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
_NO_CLONE: Final = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


@dataclass(slots=True)
class Node:
    """One thing in a tree, as `walk` finds it; `folder` is open while the node is current."""

    path: bytes  # relative to the start of the walk
    folder: int
    name: bytes
    status: os.stat_result

    @property
    def is_folder(self) -> bool:
        """It is a directory itself, not a link to one."""
        return stat.S_ISDIR(self.status.st_mode)


class _Level:
    __slots__ = ("fd", "names", "path")

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd, self.path = fd, path
        self.names = iter(sorted(map(os.fsencode, os.listdir(fd))))

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Walk:
    """A walk over the tree below a directory: parents first, names in byte order.

    Iterate it; call `prune` to leave out what is below the current node. What vanishes during the
    walk is left out.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._pruned = False

    def prune(self) -> None:
        """Do not go into the current folder."""
        self._pruned = True

    def __iter__(self) -> Iterator[Node]:
        levels = [_Level(os.open(b".", DIRECTORY, dir_fd=self._root), b"")]
        try:
            while levels:
                node = self._next(levels)
                if node is None:
                    continue
                self._pruned = False
                yield node
                if node.is_folder and not self._pruned:
                    self._enter(levels, node)
        finally:
            for level in levels:
                level.close()

    def _next(self, levels: list[_Level]) -> Node | None:
        level = levels[-1]
        if level.fd < 0:
            level.fd = _below(self._root, level.path)
        name = next(level.names, None)
        if name is None:
            levels.pop().close()
            return None
        path = level.path + b"/" + name if level.path else name
        try:
            status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _VANISHED:
                raise
            return None
        return Node(path, level.fd, name, status)

    def _enter(self, levels: list[_Level], node: Node) -> None:
        try:
            fd = os.open(node.name, DIRECTORY, dir_fd=node.folder)
        except OSError as error:
            if error.errno not in _VANISHED:
                raise
            return
        levels.append(_Level(fd, node.path))
        if len(levels) > _OPEN_LEVELS:
            levels[-_OPEN_LEVELS].close()


def _below(root: int, path: bytes) -> int:
    return openat2(root, path, DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


# --- removal -------------------------------------------------------------------------------


def remove(folder: int, name: bytes) -> None:
    """Remove `name` in `folder`, with all below it; what is not there is no error.

    Others may remove the same at the same time.
    """
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        _remove_folder(folder, name)


def _remove_folder(folder: int, name: bytes) -> None:
    try:
        top = os.open(name, DIRECTORY, dir_fd=folder)
    except FileNotFoundError:
        return
    try:
        for _ in range(_ATTEMPTS):
            while _sweep(top, top, 0):
                pass
            if _rmdir(folder, name):
                return
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=folder)


def _rmdir(folder: int, name: bytes) -> bool:
    """Remove an empty directory; False if somebody makes files in it meanwhile."""
    try:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _sweep(fd: int, top: int, depth: int) -> bool:
    """Empty a directory; return True if deep folders were moved to `top` and still wait there."""
    waiting = False
    # btrfs lists what was there when the directory was opened or last rewound (Linux 6.5).
    os.lseek(fd, 0, os.SEEK_SET)
    with os.scandir(fd) as entries:
        found = [
            (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries
        ]
    for name, is_folder in found:
        if not is_folder:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
        elif depth >= _SHALLOW:
            with suppress(FileNotFoundError):
                inode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
                unique = b".deep-%d-%d" % (inode, depth)
                os.rename(name, unique, src_dir_fd=fd, dst_dir_fd=top)
                waiting = True
        else:
            try:
                below = os.open(name, DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                continue
            try:
                waiting |= _sweep(below, top, depth + 1)
            finally:
                os.close(below)
            _rmdir(fd, name)  # else the one above cannot be removed either, and all is tried again
    return waiting


# --- measuring -----------------------------------------------------------------------------


def usage(root: int) -> tuple[int, int]:
    """Return (bytes of all files, inodes) below a directory; hard links count once."""
    size = inodes = 0
    for node in _once(root):
        inodes += 1
        if not node.is_folder:
            size += node.status.st_size
    return size, inodes


def allocated(root: int) -> int:
    """Return the bytes that a directory and all below it occupy; hard links count once."""
    blocks = os.fstat(root).st_blocks + sum(node.status.st_blocks for node in _once(root))
    return blocks * 512


def _once(root: int) -> Iterator[Node]:
    """Yield what is below a directory, of hard links the first."""
    seen: set[tuple[int, int]] = set()
    for node in Walk(root):
        status = node.status
        if status.st_nlink > 1 and not node.is_folder:
            identity = status.st_dev, status.st_ino
            if identity in seen:
                continue
            seen.add(identity)
        yield node


# --- copies --------------------------------------------------------------------------------


def copy(source: int, target: int, *, devices: bool = True) -> None:
    """Copy all that is below the directory `source` into the empty directory `target`.

    Owners, modes, times, hard links, extended attributes and devices are kept; contents are
    shared with the original where the file system can do that. Without `devices` those are left
    out, and sockets.
    """
    linked: dict[tuple[int, int], bytes] = {}
    folders: list[tuple[bytes, os.stat_result]] = []
    contents = Contents()
    copy_attributes(source, target)
    for node in Walk(source):
        if not devices and stat.S_IFMT(node.status.st_mode) in _SPECIAL:
            continue
        head, _, _ = node.path.rpartition(b"/")
        into = _below(target, head) if head else os.dup(target)
        try:
            identity = node.status.st_dev, node.status.st_ino
            if node.status.st_nlink > 1 and not node.is_folder:
                if first := linked.get(identity):
                    os.link(first, node.name, src_dir_fd=target, dst_dir_fd=into)
                    continue
                linked[identity] = node.path
            copy_node(node, into, contents)
        finally:
            os.close(into)
        if node.is_folder:
            folders.append((node.path, node.status))
    for path, status in reversed(folders):
        fd = _below(target, path)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.close(fd)
    status = os.fstat(source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


class Contents:
    """Copies the bytes of many files from one file system to one other; keeps holes."""

    def __init__(self) -> None:
        self._clones = True  # until the first refusal

    def copy(self, source: int, target: int, size: int) -> None:
        """Copy a file: shared extents, else in the kernel or, if it is small, at once."""
        if not size:
            return
        if self._clones:
            try:
                ioctl(target, _FICLONE, source)
                return
            except OSError as error:
                if error.errno not in _NO_CLONE:
                    raise
                self._clones = False
        if size <= _SMALL:  # a read and a write cost less than asking for holes
            data = memoryview(os.pread(source, size, 0))
            while data:
                data = data[os.write(target, data) :]
            return
        _copy_extents(source, target, size)


def copy_node(node: Node, into: int, contents: Contents | None = None) -> None:
    """Make one file, folder (empty), link or device like `node` in the directory `into`."""
    status, name, mode = node.status, node.name, node.status.st_mode
    if stat.S_ISREG(mode):
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=node.folder)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=into)
            try:
                (contents or Contents()).copy(source, target, status.st_size)
                copy_attributes(source, target)
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)
    elif stat.S_ISDIR(mode):
        os.mkdir(name, 0o700, dir_fd=into)
        source = os.open(name, DIRECTORY, dir_fd=node.folder)
        try:
            target = os.open(name, DIRECTORY, dir_fd=into)
            try:
                copy_attributes(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)
    else:
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=node.folder), name, dir_fd=into)
        else:
            os.mknod(name, mode, status.st_rdev, dir_fd=into)
            os.chmod(name, stat.S_IMODE(mode), dir_fd=into)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=into, follow_symlinks=False)
        times = status.st_atime_ns, status.st_mtime_ns
        os.utime(name, ns=times, dir_fd=into, follow_symlinks=False)


def copy_attributes(source: int, target: int) -> None:
    """Give `target` the owner, mode and extended attributes of `source`."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(("trusted.", "security.selinux")):
            os.setxattr(target, name, os.getxattr(source, name))


def copy_content(source: int, target: int, size: int) -> None:
    """Copy the bytes of one file; see `Contents`."""
    Contents().copy(source, target, size)


def _copy_extents(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # only a hole is left
                raise
            break
        _copy_range(source, target, start, end)
        at = end
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        try:
            count = os.copy_file_range(source, target, end - start, start, start)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            data = os.pread(source, min(end - start, 1 << 20), start)
            count = os.pwrite(target, data, start)
        if not count:
            return
        start += count
