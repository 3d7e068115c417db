"""Limits of disk space for the folders of snapshots, by project quotas of xfs and ext4.

A folder's project is kept by the file system itself, in its inode; so it is found again after any
restart. Numbers count up and are never used twice; the next one is in `.projects`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgument
from sampan.linux import quota, trees
from sampan.linux.filesystems import filesystem_name

_FILE: Final = ".projects"
_FIRST: Final = 1 << 20  # administrators count their own projects from 1, as Docker does
_LAST: Final = (1 << 32) - 2


class Projects:
    """The projects of one driver's folder."""

    def __init__(self, root: Path, driver: str) -> None:
        self._root, self._driver = root, driver
        with self._opened(root) as fd:
            self._works = quota.projects_are_limited(fd)

    @property
    def problem(self) -> str:
        """Why there are no limits here; "" if there are."""
        if self._works:
            return ""
        return (
            f"--storage-opt is supported only for {self._driver} over xfs with 'pquota' mount"
            f" option, or over ext4 with 'prjquota': the data root is on"
            f" {filesystem_name(self._root)} without"
        )

    def limit(self, folder: Path, size: int | None) -> None:
        """Limit what a new, empty folder may hold, if a size is given."""
        if size is None:
            return
        if self.problem:
            raise InvalidArgument(self.problem)
        with self._opened(folder) as fd:
            number = self._next()
            quota.set_project(fd, number)
            quota.limit_project(fd, number, size)

    def release(self, folder: Path) -> None:
        """Take the limit of a folder away that is going to be deleted."""
        if not self._works:
            return
        with suppress(OSError), self._opened(folder) as fd:
            if (number := quota.project_of(fd)) >= _FIRST:
                quota.limit_project(fd, number, 0)

    def _next(self) -> int:
        """Return a number that was never used, by us or by others."""
        path = self._root / _FILE
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            noted = os.pread(fd, 32, 0).strip()
            number = int(noted) if noted.isdigit() else self._after_all()
            while any(quota.project_usage(fd, number)):
                number += 1
            if number > _LAST:
                raise InvalidArgument("there are no projects left for --storage-opt size")
            os.pwrite(fd, b"%-31d\n" % (number + 1), 0)
            os.fsync(fd)
            return number
        finally:
            os.close(fd)

    def _after_all(self) -> int:
        """Return a number above those of all folders that are there."""
        highest = _FIRST - 1
        for parent in (self._root, *self._root.glob(".[a-z]*")):
            if not parent.is_dir():
                continue
            for folder in parent.iterdir():
                with suppress(OSError), self._opened(folder) as fd:
                    highest = max(highest, quota.project_of(fd))
        return highest + 1

    @staticmethod
    @contextmanager
    def _opened(folder: Path) -> Iterator[int]:
        fd = os.open(folder, trees.DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)
