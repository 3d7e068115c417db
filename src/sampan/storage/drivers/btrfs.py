"""Snapshots as btrfs subvolumes: a new one shares everything with its parent, and costs nothing.

There is no limit of layers by the file system, and removal does not grow with the number of files.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.errors import Unsupported
from sampan.linux import btrfs, trees
from sampan.linux.filesystems import filesystem_name
from sampan.storage.archives.tar_writer import TarWriter
from sampan.storage.drivers.driver import Folders
from sampan.storage.drivers.vfs import VfsDriver
from sampan.storage.layers.diffing import snapshot_changes, snapshot_diff, snapshot_usage
from sampan.storage.mounter import Change

log = logging.getLogger(__name__)

_NAME: Final = b"fs"
_ATTEMPTS: Final = 3  # a process that still has the mount may make subvolumes meanwhile


class BtrfsDriver(VfsDriver):
    """Snapshots as btrfs subvolumes, each `fs` in a snapshot's folder."""

    name = "btrfs"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        if (found := filesystem_name(root)) != "btrfs":
            raise Unsupported(
                "prerequisites for driver not satisfied (wrong filesystem?): the data root is on"
                f" {found}, not on btrfs"
            )

    @property
    def sizes_problem(self) -> str:
        """Say why a snapshot's size cannot be limited."""
        return ""

    def create(self, folder: Path, parents: tuple[Path, ...], size: int | None = None) -> None:
        """Make an empty subvolume, or a snapshot of the parent's."""
        into = os.open(folder, trees.DIRECTORY)
        try:
            if parents:
                source = self.tree(parents[0])
                try:
                    btrfs.create_snapshot(source, into, _NAME)
                finally:
                    os.close(source)
            else:
                btrfs.create_subvolume(into, _NAME)
                os.chmod(folder / "fs", 0o755)  # noqa: S103 - the root directory of a container
        finally:
            os.close(into)
        if size is not None:
            self._limit(folder, size)

    def _limit(self, folder: Path, size: int) -> None:
        """Limit what the snapshot has for itself: what it shares with its parent is not counted."""
        fs = self.tree(folder)
        try:
            try:
                btrfs.limit_exclusive(fs, size)
            except OSError as error:
                if error.errno not in (errno.ENOTCONN, errno.EINVAL):
                    raise
                log.info("quotas of btrfs are switched on, for --storage-opt size")
                btrfs.enable_quota(fs)
                btrfs.limit_exclusive(fs, size)
        finally:
            os.close(fs)

    def discard(self, folder: Path) -> None:
        """Remove the subvolume, and those that were made inside it by a container."""
        with suppress(FileNotFoundError):
            into = os.open(folder, trees.DIRECTORY)
            try:
                self._destroy(into)
            finally:
                os.close(into)

    def _destroy(self, folder: int) -> None:
        fs = os.open(_NAME, trees.DIRECTORY, dir_fd=folder)
        try:
            number = btrfs.subvolume_id(fs)
        finally:
            os.close(fs)
        for _ in range(_ATTEMPTS):
            try:
                btrfs.destroy_subvolume(folder, _NAME)
            except OSError as error:
                if error.errno == errno.EPERM:
                    return  # in a user namespace: it goes file by file
                if error.errno != errno.ENOTEMPTY:
                    raise
                _destroy_inside(folder, number)
            else:
                break
        with suppress(OSError):  # no quotas, or a kernel that has done so already
            btrfs.remove_quota_group(folder, number)

    def usage(self, folders: Folders) -> tuple[int, int]:
        """Measure what differs from the parent."""
        new, old = self._pair(folders)
        try:
            return snapshot_usage(new, old)
        finally:
            _close(new, old)

    def changes(self, folders: Folders) -> list[Change]:
        """Compare with the parent's subvolume."""
        new, old = self._pair(folders)
        try:
            return snapshot_changes(new, old)
        finally:
            _close(new, old)

    def diff(self, folders: Folders, writer: TarWriter) -> None:
        """Write what differs from the parent's subvolume."""
        new, old = self._pair(folders)
        try:
            snapshot_diff(new, old, writer)
        finally:
            _close(new, old)


def _destroy_inside(filesystem: int, number: int) -> None:
    """Remove all subvolumes inside one, the innermost first; as deep as they may be."""
    waiting, found = [number], []
    while waiting:
        inside = list(btrfs.subvolumes_inside(filesystem, waiting.pop()))
        found += inside
        waiting += inside
    for child in reversed(found):
        with suppress(FileNotFoundError):
            btrfs.destroy_subvolume_by_id(filesystem, child)


def _close(*fds: int | None) -> None:
    for fd in fds:
        if fd is not None:
            os.close(fd)
