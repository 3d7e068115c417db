"""inotify(7): learn that a folder changes without looking again and again."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from sampan.linux.libc import check, libc

# linux/inotify.h
IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x02, 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_ONLYDIR = 0x400, 0x800, 0x01000000
_INTERESTING = (
    IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
)

libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]


class FolderWatch:
    """Becomes readable when a file in the folder is written, made, renamed or removed."""

    def __init__(self, folder: Path) -> None:
        self._fd = check(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        try:
            mask = _INTERESTING | IN_ONLYDIR
            check(libc.inotify_add_watch(self._fd, os.fsencode(folder), mask), folder)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._fd

    def clear(self) -> None:
        """Forget the changes so far: the descriptor is not readable until the next one."""
        try:
            while os.read(self._fd, 64 << 10):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)
