"""Writing the entries of an archive into a directory tree, without trusting either.

`placing` finds the directories, `whiteouts` removes. The last component of a name is never
followed.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from typing import Final

from sampan.errors import InvalidArgument
from sampan.linux import trees
from sampan.linux.namespaces import in_user_namespace
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.spec.image import WHITEOUT
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
from sampan.storage.inside import parts_of
from sampan.storage.layers.attributes import DEFAULT_ACL, bounded, chmod, set_xattrs
from sampan.storage.layers.deferred import Deferred
from sampan.storage.layers.folder_times import FolderTimes
from sampan.storage.layers.members import blamed, entry_parts
from sampan.storage.layers.placing import Parents
from sampan.storage.layers.rules import Rules
from sampan.storage.layers.whiteouts import WhiteoutWriter, is_whiteout

log = logging.getLogger(__name__)

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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
        self._parents = Parents(root, self._base, deferred.implied if deferred else None)
        self._whiteouts = WhiteoutWriter(rules, self._parents, self._remove, deferred)
        self._folders = FolderTimes(root)
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
            self._parents.forget()

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        make = self._make.get(entry.kind)
        if make is None:
            raise InvalidArgument(f"unhandled tar header type {entry.kind[0]}")
        try:
            place = self._parents.place(entry.name)
            if place is None:
                return  # the root itself keeps its owner and mode, as with Docker
            parent, name, path = place
            if name.startswith(WHITEOUT) and self._rules.whiteouts != "plain":
                self._whiteouts.write(parent, name, path)
                return
            make(parent, name, path, entry, reader)
        except OSError as error:
            raise blamed(error, entry.name) from error
        self._whiteouts.note(path)

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
            self._parents.forget(parent)
        return status

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
                set_xattrs(fd, entry)
            times = bounded(entry.mtime)
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
                set_xattrs(fd, entry)
                self._exact = self._exact and DEFAULT_ACL not in entry.xattrs
            if opaque:
                os.setxattr(fd, self._rules.opaque, b"y")
        except BaseException:
            os.close(fd)
            raise
        self._parents.remember(path, fd)
        settled = self._exact and new and not entry.mode & 0o7000
        self._folders.add(path, None if settled else entry.mode, bounded(entry.mtime))
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
        chmod(parent, name, entry.mode, kind)

    def _finish(self, parent: int, name: bytes, entry: Entry) -> None:
        uid, gid = self._rules.owner or (entry.uid, entry.gid)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        times = bounded(entry.mtime)
        os.utime(name, ns=(times, times), dir_fd=parent, follow_symlinks=False)


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


def _umask() -> int:
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777
