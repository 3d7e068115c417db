"""Packing files of a tree into an archive, and what `docker cp` asks about a path.

Source: moby daemon/archive_unix.go, moby/go-archive archive.go, docker container cp.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import Final

from sampan.errors import InvalidArgument, NotFound
from sampan.linux.mounts import filesystem_magic
from sampan.linux.paths import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from sampan.linux.trees import Node, Walk
from sampan.spec.image import timestamp
from sampan.storage.archives.tar_fields import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARDLINK,
    REGULAR,
    SYMLINK,
    Entry,
)
from sampan.storage.archives.tar_writer import TarWriter
from sampan.storage.inside import evaluate
from sampan.storage.mounter import PathStat

log = logging.getLogger(__name__)

_KINDS: Final = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
# Go's os.FileMode. Source: Go io/fs fs.go
_GO_KINDS: Final = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
# File systems whose content is no file of the container. Source: linux/magic.h
_PSEUDO: Final = frozenset((0x9FA0, 0x62656572, 0x1CD1, 0x27E0EB, 0x63677270, 0x19800202))
ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_OVERLAYS_OWN: Final = ("user.overlay.", "user.fuseoverlayfs.")
_CAPABILITY: Final = "security.capability"
_ACLS: Final = ("system.posix_acl_access", "system.posix_acl_default")


def go_mode(mode: int) -> int:
    """Return an st_mode as Go's os.FileMode."""
    go = mode & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 0)
    if mode & stat.S_ISUID:
        go |= 1 << 23
    if mode & stat.S_ISGID:
        go |= 1 << 22
    if mode & stat.S_ISVTX:
        go |= 1 << 20
    return go


def clean(path: bytes) -> bytes:
    """Return an absolute path without `.`, `..` and double slashes; a trailing `/` or `/.` stays.

    `..` is taken away by the letter, as Go's filepath.Join does.
    """
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            parts[-1:] = []
        elif part not in (b"", b"."):
            parts.append(part)
    whole = b"/" + b"/".join(parts)
    if path.endswith(b"/.") or path == b".":
        return whole.rstrip(b"/") + b"/."
    return whole + b"/" if path.endswith(b"/") and parts else whole


def base(path: bytes) -> bytes:
    """Return the last component as Go's filepath.Base does: "/" for the root, "." for "x/."."""
    stripped = path.rstrip(b"/")
    return stripped.rpartition(b"/")[2] if stripped else b"/"


def open_path(root: int, path: bytes) -> int:
    """Open (O_PATH) a path inside the root; a link is opened itself, unless "/" follows it."""
    if b"\0" in path:
        raise InvalidArgument("a path cannot contain a zero byte")
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    try:
        return openat2(root, path, os.O_PATH | os.O_NOFOLLOW, 0, resolve)
    except OSError as error:
        if error.errno in ABSENT:
            raise NotFound(f"Could not find the file {os.fsdecode(path)}") from error
        raise


def stat_path(root: int, path: bytes) -> PathStat:
    """Return the body of X-Docker-Container-Path-Stat."""
    path = clean(path)
    fd = open_path(root, path)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    target = ""
    if stat.S_ISLNK(status.st_mode):
        target = _target(root, path).decode("utf-8", "replace")
    return PathStat(
        name=base(path).decode("utf-8", "replace"),
        size=status.st_size,
        mode=go_mode(status.st_mode),
        mtime=timestamp(status.st_mtime_ns),
        link_target=target,
    )


def _target(root: int, path: bytes) -> bytes:
    """Return where a link leads in the end, as an absolute path; itself if it leads in circles."""
    try:
        return b"/" + evaluate(root, path)
    except OSError as error:
        if error.errno in ABSENT:
            return path
        raise


class Packer:
    """Adds files to an archive; hard links among them are kept."""

    def __init__(self, writer: TarWriter) -> None:
        self._writer = writer
        self._linked: dict[tuple[int, int], bytes] = {}

    def pack(self, root: int, path: bytes) -> None:
        """Add a path of the tree: a file by its name, a folder with all below it.

        An empty path means all below the root, without the root itself: an export.
        """
        if not path:
            self.add_tree(root, b"")
            return
        path = clean(path)
        fd = open_path(root, path)
        try:
            name = base(path)
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                self._add_one(root, path, name)
                return
            name = b"" if name == b"/" else name
            self._writer.header(_entry(os.fstat(fd), name + b"/"))
            self.add_tree(fd, name + b"/")
        finally:
            os.close(fd)

    def _add_one(self, root: int, path: bytes, name: bytes) -> None:
        folder = open_path(root, path.rpartition(b"/")[0] + b"/")
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            self.add(Node(name, folder, name, status), name)
        finally:
            os.close(folder)

    def add_tree(self, folder: int, prefix: bytes) -> None:
        """Add all that is below a directory, under names that begin with `prefix`."""
        walk = Walk(folder)
        device = os.fstat(folder).st_dev
        for node in walk:
            if node.is_folder and node.status.st_dev != device and _is_pseudo(node):
                walk.prune()
            self.add(node, prefix + node.path)

    def add(self, node: Node, name: bytes) -> None:
        """Add one node under a name; what cannot be archived, or read, is left out and logged."""
        status = node.status
        entry = _entry(status, name)
        if (fd := _open(node)) is None:
            log.info("%s is left out of the archive", os.fsdecode(name))
            return
        try:
            if status.st_nlink > 1 and not node.is_folder:
                first = self._linked.setdefault((status.st_dev, status.st_ino), name)
                if first != name:
                    entry.kind, entry.link, entry.size = HARDLINK, first, 0
                    self._writer.header(entry)
                    return
            if entry.kind == SYMLINK:
                entry.link = os.readlink(node.name, dir_fd=node.folder)
            entry.xattrs = xattrs(node)
            if entry.kind == REGULAR:
                self._writer.add_file(entry, fd)
            else:
                self._writer.header(entry)
        finally:
            if fd >= 0:
                os.close(fd)


def _entry(status: os.stat_result, name: bytes) -> Entry:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), b"")
    if kind == DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    device = kind in (CHARACTER, BLOCK_DEVICE)
    return Entry(
        name,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_size if kind == REGULAR else 0,
        status.st_mtime_ns // 10**9 * 10**9,  # whole seconds, as Docker's archives
        b"",
        os.major(status.st_rdev) if device else 0,
        os.minor(status.st_rdev) if device else 0,
    )


def _open(node: Node) -> int | None:
    """Open a regular file for reading; -1 for other kinds, None if it is gone or unreadable.

    What has become something else since it was looked at is not read: opening it does not block.
    """
    if not stat.S_ISREG(node.status.st_mode):
        return -1 if stat.S_IFMT(node.status.st_mode) in _KINDS else None
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fd = os.open(node.name, flags, dir_fd=node.folder)
    except OSError:
        return None
    if os.fstat(fd).st_ino != node.status.st_ino:
        os.close(fd)
        return None
    return fd


def xattrs(node: Node) -> dict[str, bytes]:
    """Return the extended attributes that travel in archives."""
    path = b"/proc/self/fd/%d/%s" % (node.folder, node.name)
    found: dict[str, bytes] = {}
    try:
        for name in os.listxattr(path, follow_symlinks=False):
            if name == _CAPABILITY:
                found[name] = _portable_capability(os.getxattr(path, name, follow_symlinks=False))
            elif name in _ACLS or (name[:5] == "user." and not name.startswith(_OVERLAYS_OWN)):
                found[name] = os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return found  # a file system without attributes, or a file that has gone
    return found


def _portable_capability(value: bytes) -> bytes:
    """Return a file capability without the user namespace it belongs to (revision 3 → 2).

    Source: linux/capability.h, VFS_CAP_REVISION_3.
    """
    return value[:3] + b"\x02" + value[4:20] if value[3:4] == b"\x03" else value


def _is_pseudo(node: Node) -> bool:
    try:
        fd = os.open(node.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=node.folder)
    except OSError:
        return True
    try:
        return filesystem_magic(fd) in _PSEUDO
    finally:
        os.close(fd)
