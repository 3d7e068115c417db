"""Times, modes and extended attributes of files, as far as an archive may set them."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from sampan.storage.archives.tar_fields import Entry

OVERLAYS_OWN: Final = ("user.overlay.", "user.fuseoverlayfs.")  # attributes that are no file's own
DEFAULT_ACL: Final = "system.posix_acl_default"
_XATTRS: Final = ("security.capability", "system.posix_acl_access", DEFAULT_ACL)
_LAST_TIME: Final = (1 << 63) - 1


def set_xattrs(fd: int, entry: Entry) -> None:
    """Set the attributes that an image may bring; others (trusted, security, overlay's) never."""
    for name, value in entry.xattrs.items():
        if name in _XATTRS or (name.startswith("user.") and not name.startswith(OVERLAYS_OWN)):
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise


def chmod(parent: int, name: bytes, mode: int, kind: int) -> None:
    """Set a mode without following a link that took the file's place meanwhile."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if stat.S_IFMT(os.fstat(fd).st_mode) == kind:
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def bounded(mtime: int) -> int:
    """Return a time that the kernel takes, in nanoseconds: 0 for one out of its range."""
    return mtime if 0 <= mtime <= _LAST_TIME else 0
