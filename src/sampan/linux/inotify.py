"""inotify(7): names that files are given in folders. All raise OSError."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from typing import Final

from sampan.linux.libc import check, libc

# linux/inotify.h
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_ONLYDIR: Final = 0x01000000
_EVENT: Final = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len

libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]


def inotify_init1(flags: int) -> int:
    """Return a descriptor that events can be read from."""
    return check(libc.inotify_init1(flags))


def inotify_add_watch(fd: int, path: bytes, mask: int) -> int:
    """Watch a folder; return the watch descriptor that its events carry."""
    return check(libc.inotify_add_watch(fd, path, mask), path)


def read_events(fd: int) -> Iterator[tuple[int, bytes]]:
    """Yield (watch descriptor, name) of what has happened; `fd` must not block."""
    try:
        data = os.read(fd, 64 << 10)
    except BlockingIOError:
        return
    while data:
        watch, _, _, length = _EVENT.unpack_from(data)
        end = _EVENT.size + length
        yield watch, data[_EVENT.size : end].rstrip(b"\0")
        data = data[end:]
