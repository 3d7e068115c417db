"""Device nodes of the host inside a container, above all /dev/null.

Root in a container has the rights of the node's owner. Were it the host's node, chmod(2) on a
masked path or fchmod(2) on a stream would change the mode of /dev/null for everybody on the host.
On a read-only mount the device can be written to, and the node cannot be changed.
"""

from __future__ import annotations

import os

from sampan.linux import mounts as m
from sampan.linux import paths

_ATTRIBUTES = m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC


def read_only_copy(node: int) -> int:
    """Return a detached, read-only bind mount of a device node; raises OSError."""
    copy = m.clone_tree(node)
    try:
        m.mount_setattr(copy, b"", m.AT_EMPTY_PATH, _ATTRIBUTES)
    except OSError:
        os.close(copy)
        raise
    return copy


def null_for(streams: tuple[int, int, int]) -> int:
    """Open /dev/null for outputs that are it, so that its node cannot be changed through them.

    Returns -1 if none is, and where no mount can be made, as in a user namespace: nobody there
    owns the node. An input needs none: see `nothing_to_read`.
    """
    if not any(is_null(fd) for fd in streams[1:]):
        return -1
    try:
        node = paths.open_device(b"/dev/null", 1, 3)
        try:
            copy = read_only_copy(node)
        finally:
            os.close(node)
    except OSError:
        return -1
    try:
        return os.open(f"/proc/self/fd/{copy}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(copy)


def open_own_null() -> int:
    """Open /dev/null of the container whose root was entered; -1 if what is there is none.

    It may be anything: so no link is followed, and no FIFO waited for.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(b"/dev/null", flags)
    except OSError:
        return -1
    if not is_null(fd):
        os.close(fd)
        return -1
    os.set_blocking(fd, True)
    return fd


def nothing_to_read() -> int:
    """Return a descriptor that is at its end, as /dev/null is to its readers."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.close(writer)
    return reader


def is_null(fd: int) -> bool:
    """Tell whether a descriptor is /dev/null; a closed one is not."""
    try:
        return paths.is_device(fd, 1, 3)
    except OSError:
        return False
