"""What files are, in the words of BuildKit's file sync.

Source: tonistiigi/fsutil types/stat.proto; Go documentation, io/fs FileMode.
"""

from __future__ import annotations

import os
from typing import Final

from sampan.build.files.tree import File
from sampan.spec.buildkit.session_pb2 import Stat
from sampan.storage.archives.tar_fields import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    REGULAR,
    SYMLINK,
)

# Bits of Go's FileMode, which are not those of stat(2).
_DIR, _SYMLINK, _DEVICE, _PIPE, _SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
_SETUID, _SETGID, _CHARACTER, _STICKY = 1 << 23, 1 << 22, 1 << 21, 1 << 20
_SPECIAL: Final = ((_SETUID, 0o4000), (_SETGID, 0o2000), (_STICKY, 0o1000))
_KINDS: Final = {
    DIRECTORY: _DIR,
    SYMLINK: _SYMLINK,
    CHARACTER: _DEVICE | _CHARACTER,
    BLOCK_DEVICE: _DEVICE,
    FIFO: _PIPE,
    REGULAR: 0,
}
_BY_BITS: Final = {bits: kind for kind, bits in _KINDS.items()}
_ALL: Final = _DIR | _SYMLINK | _DEVICE | _CHARACTER | _PIPE | _SOCKET


def file_of(stat: Stat) -> File | None:
    """Return what a client says of a file; None for a kind that archives do not have."""
    kind = _BY_BITS.get(stat.mode & _ALL)
    if kind is None:
        return None
    mode = stat.mode & 0o777
    for bit, ours in _SPECIAL:
        mode |= ours if stat.mode & bit else 0
    return File(
        kind,
        mode,
        mtime=stat.modTime,
        size=stat.size if kind == REGULAR else 0,
        link=os.fsencode(stat.linkname) if kind == SYMLINK else b"",
        device=(stat.devmajor, stat.devminor),
        xattrs={name: bytes(value) for name, value in stat.xattrs.items()},
    )


def stat_of(path: bytes, file: File, linked: bytes = b"") -> Stat:
    """Return what we tell a client of a file; `linked` is another path of the same file."""
    mode = _KINDS[file.kind] | (file.mode & 0o777)
    for bit, ours in _SPECIAL:
        mode |= bit if file.mode & ours else 0
    return Stat(
        path=path.decode("utf-8", "replace"),
        mode=mode,
        uid=file.uid,
        gid=file.gid,
        size=0 if linked else file.size,
        modTime=file.mtime,
        linkname=(linked or file.link).decode("utf-8", "replace"),
        devmajor=file.device[0],
        devminor=file.device[1],
        xattrs=file.xattrs,
    )
