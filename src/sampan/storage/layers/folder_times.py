"""Modes and times of directories: set at the end, because files that come in change them.

Millions of them go to a temporary file instead of memory.
"""

from __future__ import annotations

import os
from struct import Struct
from tempfile import SpooledTemporaryFile
from typing import IO, Final

from sampan.linux import trees
from sampan.linux.paths import O_DIRECTORY, open_in_root

_IN_MEMORY: Final = 16 << 20  # bytes
_RECORD: Final = Struct("<HHq")  # length of the path, mode, nanoseconds
_KEEP: Final = 0xFFFF


class FolderTimes:
    """The directories of one archive, in its order: what is said last counts."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._records: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._open: tuple[bytes, int] | None = None

    def add(self, path: bytes, mode: int | None, mtime: int) -> None:
        """Note a directory; without a mode it keeps the one that it has."""
        self._records.write(_RECORD.pack(len(path), _KEEP if mode is None else mode, mtime) + path)

    def apply(self) -> None:
        """Set everything; directories whose place something else took are left out."""
        self._records.seek(0)
        try:
            while head := self._records.read(_RECORD.size):
                length, mode, mtime = _RECORD.unpack(head)
                self._set(self._records.read(length), mode, mtime)
        finally:
            self._close_parent()

    def close(self) -> None:
        """Forget everything."""
        self._records.close()

    def _set(self, path: bytes, mode: int, mtime: int) -> None:
        folder, _, name = path.rpartition(b"/")
        try:
            fd = os.open(name, trees.DIRECTORY, dir_fd=self._parent(folder))
        except OSError:
            return
        try:
            if mode != _KEEP:
                os.fchmod(fd, mode)
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)

    def _parent(self, folder: bytes) -> int:
        """Return a descriptor of a directory, which stays open until another one is wanted."""
        if self._open is None or self._open[0] != folder:
            self._close_parent()
            self._open = folder, open_in_root(self._root, folder, O_DIRECTORY)
        return self._open[1]

    def _close_parent(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None
