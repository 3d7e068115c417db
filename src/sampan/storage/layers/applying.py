"""Writing the entries of an archive into a directory tree, without trusting either.

Every parent is resolved with openat2(RESOLVE_IN_ROOT), so that a link in the tree means what it
means to a process inside, and nothing outside can be touched. The last component of a name is
never followed. Parents stay open in a small cache, because archives list neighbours together.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from sampan.errors import InvalidArgument
from sampan.linux import trees
from sampan.linux.namespaces import in_user_namespace
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.storage.archives.recording import Recorder
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
from sampan.storage.archives.tar_reader import TarReader, write_all
from sampan.storage.inside import evaluate, parts_of
from sampan.storage.layers.deferred import Deferred
from sampan.storage.layers.folder_times import FolderTimes

log = logging.getLogger(__name__)

OVERLAYS_OWN: Final = ("user.overlay.", "user.fuseoverlayfs.")  # attributes that are no file's own
OPAQUE: Final = "trusted.overlay.opaque"
WHITEOUT: Final = b".wh."
_META: Final = b".wh..wh."
_OPAQUE_NAME: Final = b".wh..wh..opq"
MAX_DEPTH: Final = 400  # components of a name
_OPEN_PARENTS: Final = 128
_NO_NAMES: Final = (b"", b".", b"..")
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LAST_TIME: Final = (1 << 63) - 1
_OURS: Final = frozenset(  # errors that the archive cannot be blamed for
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
)
_XATTRS: Final = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")

Whiteouts = Literal["overlay", "delete", "drop", "plain"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How an archive is written.

    `whiteouts`: "overlay" makes the kernel's marks, "delete" removes what is there, "drop"
    ignores them (nothing is below), "plain" takes them for ordinary files. `fresh`: the tree was
    empty, so nothing has to be undone that a directory passes on. `owner`: of all that is made.
    `strict_kinds`: a directory is never replaced by something else, nor the other way round.
    `opaque`: the attribute of a directory that hides what is below.
    """

    whiteouts: Whiteouts
    fresh: bool = False
    owner: tuple[int, int] | None = None
    strict_kinds: bool = False
    opaque: str = OPAQUE


class Applier:
    """Writes one archive below `base` in the tree whose root directory is `root`.

    `deferred` collects what depends on the parents of this layer, which may not be there yet;
    without it nothing lies below the tree. `recorder` writes the recipe of the layer.
    """

    def __init__(
        self,
        root: int,
        rules: Rules,
        base: bytes = b"",
        deferred: Deferred | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._root, self._rules = root, rules
        self._deferred, self._recorder = deferred, recorder
        self._remove = recorder.discard if recorder else trees.remove
        self._base = tuple(parts_of(base))
        self._parents: dict[bytes, int] = {}
        self._heads: dict[bytes, tuple[int, bytes]] = {}  # as written → descriptor, prefix of paths
        self._folders = FolderTimes(root)
        # What the archive brought, and the directories above it.
        self._made: set[bytes] | None = set() if rules.whiteouts == "delete" else None
        self._exact = rules.fresh and _umask() == 0 and os.geteuid() == os.getegid() == 0
        self.size = 0
        self._make: dict[bytes, Callable[[int, bytes, bytes, Entry, TarReader], None]] = {
            REGULAR: self._file,
            DIRECTORY: self._folder,
            SYMLINK: self._symlink,
            HARDLINK: self._hardlink,
            CHARACTER: self._device,
            BLOCK_DEVICE: self._device,
            FIFO: self._device,
        }

    def apply(self, reader: TarReader) -> None:
        """Write all entries; InvalidArgument for what the archive may not do."""
        try:
            for entry in reader:
                self._entry(entry, reader)
            self._folders.apply()
        finally:
            self._folders.close()
            self._forget_parents()

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        make = self._make.get(entry.kind)
        if make is None:
            raise InvalidArgument(f"unhandled tar header type {entry.kind[0]}")
        try:
            place = self._place(entry.name)
            if place is None:
                return  # the root itself keeps its owner and mode, as with Docker
            parent, name, path = place
            if name.startswith(WHITEOUT) and self._rules.whiteouts != "plain":
                self._whiteout(parent, path, name)
                return
            make(parent, name, path, entry, reader)
        except OSError as error:
            raise blamed(error, entry.name) from error
        while self._made is not None and path and path not in self._made:
            self._made.add(path)
            path = path.rpartition(b"/")[0]

    # --- parents ---------------------------------------------------------------------------

    def _place(self, whole: bytes) -> tuple[int, bytes, bytes] | None:
        """Return where a member goes: directory (owned by the cache), name, path; None: the root.

        Directories are found by the letter first, as archives list neighbours together.
        """
        head, _, name = whole.rpartition(b"/")
        known = self._heads.get(head)
        if known and name not in _NO_NAMES:
            return known[0], name, known[1] + name
        parts = entry_parts(whole)
        if not parts:
            return None
        parts = [*self._base, *parts]
        last = parts.pop()
        parent = self._parent(parts)
        prefix = b"/".join([*parts, b""])
        if last == name:
            self._heads[head] = parent, prefix
        return parent, last, prefix + last

    def _parent(self, parts: list[bytes]) -> int:
        """Return a descriptor, owned by the cache, of the directory `parts`; make it if missing."""
        key = b"/".join(parts)
        if (found := self._parents.get(key)) is not None:
            return found
        try:
            fd = open_in_root(self._root, key, O_DIRECTORY)
        except FileNotFoundError:
            fd = self._implied(parts, key)
        return self._remember(key, fd)

    def _remember(self, key: bytes, fd: int) -> int:
        if len(self._parents) >= _OPEN_PARENTS:
            self._forget_parents()  # nobody holds more than the one that was asked for last
        if (old := self._parents.pop(key, None)) is not None:
            os.close(old)
            self._heads.clear()
        self._parents[key] = fd
        return fd

    def _forget_parents(self, but: int = -1) -> None:
        kept = {key: fd for key, fd in self._parents.items() if fd == but}
        for fd in self._parents.values():
            if fd != but:
                os.close(fd)
        self._parents = kept
        self._heads.clear()

    def _implied(self, parts: list[bytes], key: bytes) -> int:
        """Make a directory that the archive uses without listing it."""
        real = evaluate(self._root, key)
        if real != key:  # through a link whose target is missing
            return os.dup(self._parent(parts_of(real)))
        parent, name = self._parent(parts[:-1]), parts[-1]
        os.mkdir(name, 0o755, dir_fd=parent)
        fd = os.open(name, trees.DIRECTORY, dir_fd=parent)
        try:
            os.fchmod(fd, 0o755)
            if self._deferred:
                self._deferred.implied(key)
        except BaseException:
            os.close(fd)
            raise
        return fd

    # --- what is in the way ----------------------------------------------------------------

    def _clear(self, parent: int, name: bytes, entry: Entry) -> os.stat_result | None:
        """Remove what stands where `entry` goes; return what it was."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if self._rules.strict_kinds:
            shown = os.fsdecode(entry.name)
            where = "/" + os.fsdecode(b"/".join(self._base))
            if stat.S_ISDIR(status.st_mode) and entry.kind != DIRECTORY:
                raise InvalidArgument(
                    f'cannot overwrite directory "{shown}" with non-directory "{where}"'
                )
            if not stat.S_ISDIR(status.st_mode) and entry.kind == DIRECTORY:
                raise InvalidArgument(
                    f'cannot overwrite non-directory "{shown}" with directory "{where}"'
                )
        self._remove(parent, name)
        if not stat.S_ISREG(status.st_mode):
            self._forget_parents(parent)
        return status

    def _whiteout(self, parent: int, path: bytes, name: bytes) -> None:
        hidden = name[len(WHITEOUT) :]
        how = self._rules.whiteouts
        if name == _OPAQUE_NAME:
            if how == "overlay":
                os.setxattr(f"/proc/self/fd/{parent}", self._rules.opaque, b"y")
            elif how == "delete":
                self._remove_old(parent, path.rpartition(b"/")[0])
                self._forget_parents(parent)
            return
        if hidden in (b"", b".", b".."):
            raise InvalidArgument(f'invalid whiteout entry "{os.fsdecode(name)}"')
        if name.startswith(_META) or how == "drop":
            return  # the book-keeping of aufs
        if how == "delete":
            folder = path.rpartition(b"/")[0]
            self._remove_lower(parent, hidden, folder + b"/" + hidden if folder else hidden)
            self._forget_parents(parent)
            return
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
            if self._deferred:
                folder = path.rpartition(b"/")[0]
                self._deferred.whiteout(folder + b"/" + hidden if folder else hidden)
        except FileExistsError:
            # This layer brings the name itself: only what is below it has to go.
            status = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._set_opaque(parent, hidden)

    def _remove_old(self, folder: int, path: bytes) -> None:
        """Remove what this archive did not bring from a directory, at any depth."""
        for child in map(os.fsencode, os.listdir(f"/proc/self/fd/{folder}")):
            self._remove_lower(folder, child, path + b"/" + child if path else child)

    def _remove_lower(self, folder: int, name: bytes, path: bytes) -> None:
        """Remove something, but for what this archive brought; `path` is where it is."""
        if self._made is None or path not in self._made:
            self._remove(folder, name)
            return
        with suppress(NotADirectoryError):
            below = os.open(name, trees.DIRECTORY, dir_fd=folder)
            try:
                self._remove_old(below, path)
            finally:
                os.close(below)

    def _set_opaque(self, parent: int, name: bytes) -> None:
        fd = os.open(name, trees.DIRECTORY, dir_fd=parent)
        try:
            os.setxattr(fd, self._rules.opaque, b"y")
        finally:
            os.close(fd)

    # --- kinds -----------------------------------------------------------------------------

    def _file(self, parent: int, name: bytes, path: bytes, entry: Entry, reader: TarReader) -> None:
        try:
            fd = os.open(name, _NEW_FILE, entry.mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, entry)
            fd = os.open(name, _NEW_FILE, entry.mode & 0o777, dir_fd=parent)
        try:
            if entry.sparse is None:
                reader.write_to(fd)
            else:
                _write_sparse(fd, entry, reader)
            uid, gid = self._rules.owner or (entry.uid, entry.gid)
            if not self._exact or uid or gid:
                os.fchown(fd, uid, gid)
            if not self._exact or entry.mode & 0o7000:
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                _set_xattrs(fd, entry)
            times = _bounded(entry.mtime)
            os.utime(fd, ns=(times, times))
            if self._recorder:
                self._recorder.content(path, fd, entry)
        finally:
            os.close(fd)
        self.size += entry.size

    def _folder(
        self, parent: int, name: bytes, path: bytes, entry: Entry, reader: TarReader
    ) -> None:
        try:
            os.mkdir(name, entry.mode & 0o777, dir_fd=parent)
            new, opaque = True, False
        except FileExistsError:
            new, opaque = False, self._merge(parent, name, entry)
        fd = os.open(name, trees.DIRECTORY, dir_fd=parent)
        try:
            uid, gid = self._rules.owner or (entry.uid, entry.gid)
            if not (self._exact and new) or uid or gid:
                os.fchown(fd, uid, gid)
            if entry.xattrs:
                _set_xattrs(fd, entry)
                self._exact = self._exact and _XATTRS[2] not in entry.xattrs
            if opaque:
                os.setxattr(fd, self._rules.opaque, b"y")
        except BaseException:
            os.close(fd)
            raise
        self._remember(path, fd)
        settled = self._exact and new and not entry.mode & 0o7000
        self._folders.add(path, None if settled else entry.mode, _bounded(entry.mtime))
        if self._deferred:
            self._deferred.listed(path)

    def _merge(self, parent: int, name: bytes, entry: Entry) -> bool:
        """Keep a directory that is there; else clear the way, and tell if it was a whiteout."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return False
        self._clear(parent, name, entry)
        os.mkdir(name, entry.mode & 0o777, dir_fd=parent)
        return self._rules.whiteouts == "overlay" and is_whiteout(status)

    def _symlink(
        self, parent: int, name: bytes, path: bytes, entry: Entry, reader: TarReader
    ) -> None:
        try:
            os.symlink(entry.link, name, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, entry)
            os.symlink(entry.link, name, dir_fd=parent)
        self.size += len(entry.link)
        self._finish(parent, name, entry)

    def _hardlink(
        self, parent: int, name: bytes, path: bytes, entry: Entry, reader: TarReader
    ) -> None:
        target = entry_parts(entry.link)
        if not target:
            raise InvalidArgument(f'invalid hardlink target "{os.fsdecode(entry.link)}"')
        target = [*self._base, *target]
        if b"/".join(target) == path:
            raise InvalidArgument(f'invalid hardlink target "{os.fsdecode(entry.link)}"')
        self._clear(parent, name, entry)
        try:
            folder = open_in_root(self._root, b"/".join(target[:-1]), O_DIRECTORY)
            try:
                self._check_visible(folder, target[-1])
                os.link(
                    target[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False
                )
            finally:
                os.close(folder)
        except FileNotFoundError:
            if self._deferred is None:
                raise
            holders, holder = self._deferred.holder(b"/".join(target))
            os.link(holder, name, src_dir_fd=holders, dst_dir_fd=parent, follow_symlinks=False)

    def _check_visible(self, folder: int, name: bytes) -> None:
        """Refuse a link to a file that this archive removes."""
        if self._deferred is None or not self._deferred.has_whiteouts:
            return
        if is_whiteout(os.stat(name, dir_fd=folder, follow_symlinks=False)):
            raise InvalidArgument(f'invalid hardlink target "{os.fsdecode(name)}"')

    def _device(
        self, parent: int, name: bytes, path: bytes, entry: Entry, reader: TarReader
    ) -> None:
        if entry.major >= 1 << 12 or entry.minor >= 1 << 20:
            raise InvalidArgument(f'invalid device number of "{os.fsdecode(entry.name)}"')
        kind = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}.get(entry.kind, stat.S_IFIFO)
        mode, device = kind | entry.mode & 0o777, os.makedev(entry.major, entry.minor)
        if device and in_user_namespace():
            log.info("the device %s is left out: a user namespace has none", os.fsdecode(path))
            return
        try:
            os.mknod(name, mode, device, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, entry)
            os.mknod(name, mode, device, dir_fd=parent)
        self._finish(parent, name, entry)
        _chmod(parent, name, entry.mode, kind)

    def _finish(self, parent: int, name: bytes, entry: Entry) -> None:
        uid, gid = self._rules.owner or (entry.uid, entry.gid)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        times = _bounded(entry.mtime)
        os.utime(name, ns=(times, times), dir_fd=parent, follow_symlinks=False)


def entry_parts(name: bytes) -> list[bytes]:
    """Return the components of a member's name, relative to the root; empty for the root itself.

    A name that climbs out of the root is InvalidArgument.
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidArgument(f'invalid entry name "{os.fsdecode(name)}"')
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    if len(parts) > MAX_DEPTH:
        raise InvalidArgument("a member of the archive lies too deep")
    return parts


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether a file is overlay's mark for "deleted": the character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _write_sparse(fd: int, entry: Entry, reader: TarReader) -> None:
    pieces = iter(entry.sparse or [])
    offset = length = 0
    for data in reader.data():
        while data:
            while not length:
                offset, length = next(pieces)
            part = data[:length]
            os.lseek(fd, offset, os.SEEK_SET)
            write_all(fd, part)
            offset, length, data = offset + len(part), length - len(part), data[len(part) :]
    os.ftruncate(fd, entry.size)


def _set_xattrs(fd: int, entry: Entry) -> None:
    """Set the attributes that an image may bring; others (trusted, security, overlay's) never."""
    for name, value in entry.xattrs.items():
        if name in _XATTRS or (name.startswith("user.") and not name.startswith(OVERLAYS_OWN)):
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise


def _chmod(parent: int, name: bytes, mode: int, kind: int) -> None:
    """Set a mode without following a link that took the file's place meanwhile."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if stat.S_IFMT(os.fstat(fd).st_mode) == kind:
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def _bounded(mtime: int) -> int:
    return mtime if 0 <= mtime <= _LAST_TIME else 0


def blamed(error: OSError, name: bytes) -> Exception:
    """Return what is raised for the failure of one entry: the archive's fault, or the error."""
    if error.errno in _OURS:
        return error
    reason = os.strerror(error.errno or 0).lower()
    if error.errno == errno.EINVAL and in_user_namespace():
        reason += " (its owner may be none of the ids of this user namespace: see subuid(5))"
    return InvalidArgument(f"{os.fsdecode(name[:256])}: {reason}")


def _umask() -> int:
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777
