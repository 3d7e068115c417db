"""The VolumeKeeper of this machine: runs in the storage helper, or in a privileged library user.

```
volumes/<name>/_data     what containers see; something may be mounted on it
volumes/<name>/.filling  what an image has there, on its way into _data
volumes/.trash/          what was removed
```
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgument, NotFound
from sampan.linux import inotify, mount_words, mounts, quota, trees
from sampan.linux.paths import (
    O_DIRECTORY,
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    open_in_root,
    openat2,
)
from sampan.rpc import Fd
from sampan.spec.names import VOLUME, VOLUME_BYTES
from sampan.spec.runtime import Mount
from sampan.storage.fullness import told_when_full
from sampan.storage.plugin_sockets import PluginSockets
from sampan.storage.projects import Projects
from sampan.storage.volume_keeper import FileWatch, Fill, PluginSocket, VolumeFolder, VolumeUsage

DATA: Final = b"_data"
FILLING: Final = b".filling"
TRASH: Final = b".trash"
#: The calls that take long: the helper carries each of them out in a child.
FORKING: Final = (
    *("mount_volume", "unmount_volume", "fill_volumes", "collect_volumes", "volume_usage"),
    "dial_plugin",
)
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class LinuxVolumeKeeper:
    """Volumes below `root`/volumes, and plug-ins whose sockets are in well-known folders."""

    def __init__(self, root: Path, run_root: Path | None = None) -> None:
        self._path = root / "volumes"
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = os.open(self._path, trees.DIRECTORY)
        os.fchmod(self._root, 0o700)
        self._projects = Projects(self._path, "local volumes")
        self._plugins = PluginSockets(run_root)

    def close(self) -> None:
        """Close what is open."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    # --- folders ---------------------------------------------------------------------------

    def make_volume(self, name: str, size: int = 0) -> None:
        """Make the folder of a volume; see VolumeKeeper."""
        encoded = _checked(name)
        if size and self._projects.problem:
            raise InvalidArgument("quota size requested but no quota support")
        with told_when_full():
            with suppress(FileExistsError):
                os.mkdir(encoded, 0o701, dir_fd=self._root)
            with self._opened(encoded) as folder:
                if not size:
                    with suppress(FileExistsError):
                        os.mkdir(DATA, 0o755, dir_fd=folder)
                elif not _has_data(folder):
                    self._make_limited(name, folder, size)

    def _make_limited(self, name: str, folder: int, size: int) -> None:
        """Make the folder of a volume's data; it has its name when it has its limit."""
        fcntl.flock(folder, fcntl.LOCK_EX)
        trees.remove(folder, FILLING)
        os.mkdir(FILLING, 0o755, dir_fd=folder)
        self._projects.limit(self._path / name / FILLING.decode(), size)
        os.rename(FILLING, DATA, src_dir_fd=folder, dst_dir_fd=folder)

    def volumes(self) -> list[VolumeFolder]:
        """Return all volumes that have a folder."""
        found = []
        for name in sorted(os.listdir(self._root)):
            if VOLUME.fullmatch(name):
                with suppress(NotFound), self._opened(os.fsencode(name)) as folder:
                    if _has_data(folder):
                        is_mounted = self._is_mounted(os.fsencode(name))
                        found.append(VolumeFolder(name=name, mounted=is_mounted))
        return found

    def remove_volume(self, name: str) -> None:
        """Move a volume into the trash; see VolumeKeeper."""
        encoded = _checked(name)
        self.unmount_volume(name)
        self._projects.release(self._path / name / "_data")
        with suppress(FileExistsError):
            os.mkdir(TRASH, 0o700, dir_fd=self._root)
        goal = TRASH + b"/" + secrets.token_hex(16).encode()
        with suppress(FileNotFoundError):
            os.rename(encoded, goal, src_dir_fd=self._root, dst_dir_fd=self._root)

    def collect_volumes(self) -> None:
        """Empty the trash, and take away what killed copies have left beside volumes."""
        for name in os.listdir(self._root):
            if VOLUME.fullmatch(name):
                with suppress(NotFound), self._opened(os.fsencode(name)) as folder:
                    _forget_copy(folder)
        try:
            trash = os.open(TRASH, trees.DIRECTORY, dir_fd=self._root)
        except FileNotFoundError:
            return
        try:
            for name in os.listdir(trash):
                trees.remove(trash, os.fsencode(name))
        finally:
            os.close(trash)

    def volume_usage(self, names: list[str]) -> dict[str, VolumeUsage]:
        """Return the disk use of volumes; see VolumeKeeper."""
        found: dict[str, VolumeUsage] = {}
        for name in names:
            if not name:
                found[name] = VolumeUsage(size=0, allocated=self._others())
                continue
            encoded = _checked(name)
            with suppress(NotFound), self._opened(encoded) as folder:
                if self._is_mounted(encoded):
                    found[name] = VolumeUsage(size=-1, allocated=-1)
                    continue
                with self._data(folder) as data:
                    size, _ = trees.usage(data)
                found[name] = VolumeUsage(size=size, allocated=trees.allocated(folder))
        return found

    def _others(self) -> int:
        own = os.fstat(self._root).st_blocks * 512
        for name in os.listdir(self._root):
            if VOLUME.fullmatch(name) and self._is_folder(os.fsencode(name)):
                continue
            status = os.stat(name, dir_fd=self._root, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                fd = os.open(name, trees.DIRECTORY, dir_fd=self._root)
                try:
                    own += trees.allocated(fd)
                finally:
                    os.close(fd)
            else:
                own += status.st_blocks * 512
        return own

    def _is_folder(self, name: bytes) -> bool:
        status = os.stat(name, dir_fd=self._root, follow_symlinks=False)
        return stat.S_ISDIR(status.st_mode)

    @contextmanager
    def _opened(self, name: bytes) -> Iterator[int]:
        """Open the folder of a volume; NotFound if there is none."""
        fd = _open_below(self._root, name, f"get {name.decode()}: no such volume")
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _data(self, folder: int) -> Iterator[int]:
        fd = _open_below(folder, DATA, "the volume has lost its folder")
        try:
            yield fd
        finally:
            os.close(fd)

    # --- mounts ----------------------------------------------------------------------------

    def mount_volume(self, name: str, mount: Mount) -> None:
        """Mount something on a volume's folder; see VolumeKeeper."""
        encoded = _checked(name)
        if "\0" in mount.source + mount.type + "".join(mount.options):
            raise InvalidArgument(f"the options of volume {name} contain a NUL byte")
        with self._opened(encoded) as folder, self._data(folder) as data:
            if mounts.is_mount_root(data):
                return
            target = f"/proc/self/fd/{data}".encode()
            path = os.fsencode(self._path / name) + b"/" + DATA
            try:
                mount_words.mount(mount.source, target, path, mount.type, mount.options)
            except OSError as error:
                flags = mount_words.compile_words(mount.options).flags
                raise InvalidArgument(
                    f"failed to mount local volume: mount {mount.source}:{self._path}/{name}/_data,"
                    f" flags: {flags:#x}: {(error.strerror or '').lower()}"
                ) from error

    def unmount_volume(self, name: str) -> None:
        """Take away what is mounted on a volume's folder."""
        encoded = _checked(name)
        while self._is_mounted(encoded):
            # No part of this path can be written by anybody but root.
            mounts.umount2(
                os.fsencode(self._path / name) + b"/" + DATA,
                mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW,
            )

    def _is_mounted(self, name: bytes) -> bool:
        try:
            with self._opened(name) as folder, self._data(folder) as data:
                return mounts.is_mount_root(data)
        except NotFound:
            return False

    # --- copy-up ---------------------------------------------------------------------------

    def fill_volumes(self, root: Fd, fills: list[Fill]) -> None:
        """Copy what a root has into empty volumes; see VolumeKeeper."""
        for fill in fills:
            encoded = _checked(fill.volume)
            try:
                where = fill.path.encode("utf-8", "surrogateescape")
                found = open_in_root(root.number, where, O_DIRECTORY)
            except OSError as error:
                if error.errno in _ABSENT:
                    continue
                raise
            try:
                source = os.open(b".", trees.DIRECTORY, dir_fd=found)
            finally:
                os.close(found)
            try:
                with self._opened(encoded) as folder, told_when_full():
                    self._fill(folder, source, in_place=fill.in_place)
            finally:
                os.close(source)

    def _fill(self, folder: int, source: int, *, in_place: bool) -> None:
        with self._data(folder) as data:
            if os.listdir(data):
                return
            if not os.listdir(source):
                trees.copy_attributes(source, data)
                return
            # What is in another project cannot be renamed, and a mount cannot be replaced.
            if in_place or mounts.is_mount_root(data) or quota.project_of(data):
                _fill_in_place(source, data)
                return
        fcntl.flock(folder, fcntl.LOCK_EX)  # until the folder is closed, or we are killed
        trees.remove(folder, FILLING)
        os.mkdir(FILLING, 0o700, dir_fd=folder)
        try:
            filling = os.open(FILLING, trees.DIRECTORY, dir_fd=folder)
            try:
                trees.copy(source, filling, devices=False)
            finally:
                os.close(filling)
            os.rename(FILLING, DATA, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            trees.remove(folder, FILLING)
            raise

    # --- files of the host -----------------------------------------------------------------

    def watch_files(self, paths: list[str]) -> FileWatch | None:
        """Watch the folders of files; see VolumeKeeper."""
        files = [path for path in paths if _is_file(path)]
        if not files:
            return None
        events = Fd(inotify.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        found = FileWatch(events=events)
        for path in files:
            folder = os.fsencode(os.path.dirname(path))
            mask = inotify.IN_MOVED_TO | inotify.IN_CREATE | inotify.IN_ONLYDIR
            with suppress(OSError):
                found.files[path] = inotify.inotify_add_watch(events.number, folder, mask)
        return found

    # --- plug-ins --------------------------------------------------------------------------

    def dial_plugin(self, name: str) -> PluginSocket:
        """Connect with a plug-in; see VolumeKeeper."""
        return self._plugins.dial(name)

    def plugins(self) -> list[str]:
        """Return the names of all plug-ins."""
        return self._plugins.names()


def _checked(name: str) -> bytes:
    if not VOLUME.fullmatch(name) or len(name) > VOLUME_BYTES:
        raise InvalidArgument(f"{name!r} is no name of a volume")
    return name.encode()


def _open_below(folder: int, name: bytes, sentence: str) -> int:
    """Open a folder of ours: no link, whatever has been put there."""
    try:
        return openat2(folder, name, trees.DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno in _ABSENT:
            raise NotFound(sentence) from error
        raise


def _is_file(path: str) -> bool:
    try:
        return path.startswith("/") and stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _has_data(folder: int) -> bool:
    try:
        os.stat(DATA, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _forget_copy(folder: int) -> None:
    """Remove a copy on its way into a volume, unless somebody is at it."""
    try:
        os.stat(FILLING, dir_fd=folder, follow_symlinks=False)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return
    trees.remove(folder, FILLING)


def _fill_in_place(source: int, target: int) -> None:
    names = os.listdir(source)
    try:
        trees.copy(source, target, devices=False)
    except BaseException:
        for name in names:
            trees.remove(target, os.fsencode(name))
        raise
