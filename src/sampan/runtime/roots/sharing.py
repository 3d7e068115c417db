"""The shared memory of another container, which comes with its IPC namespace.

POSIX shared memory is files of a tmpfs, so to share the namespace is not enough. The mount is
cloned inside the other's mount namespace, where alone the kernel allows it; that container may
have put anything there, so what is not a tmpfs is refused.
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.linux import mounts as m
from sampan.linux import namespaces, paths
from sampan.runtime.roots.options import Planned
from sampan.runtime.starting.channel import reason

SHM = b"/dev/shm"
TMPFS_MAGIC = 0x01021994  # linux/magic.h
_ATTRIBUTES = m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC


def shared_memory(pid: int) -> Planned:
    """Return the mount of /dev/shm of the container of a process; raises InvalidArgument.

    The calling process has one thread, and is in that container's mount namespace for a moment.
    """
    try:
        own, other = _mounts_of("self"), _mounts_of(str(pid))
    except OSError as error:
        raise InvalidArgument(f"cannot share memory with process {pid}: {reason(error)}") from None
    try:
        namespaces.setns(other, namespaces.CLONE_NEWNS)
        try:
            tree = _clone()
        finally:
            namespaces.setns(own, namespaces.CLONE_NEWNS)
    except OSError as error:
        raise InvalidArgument(
            f"cannot share /dev/shm of the other container: {reason(error)}"
        ) from None
    finally:
        os.close(own)
        os.close(other)
    m.mount_setattr(tree, b"", m.AT_EMPTY_PATH, _ATTRIBUTES, propagation=m.MS_PRIVATE)
    return Planned(SHM, "bind", SHM, tree=tree)


def _mounts_of(process: str) -> int:
    return os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def _clone() -> int:
    root = os.open(b"/", paths.O_DIRECTORY)
    try:
        place = paths.open_in_root(root, SHM, paths.O_DIRECTORY, links=False)
        try:
            if m.filesystem_magic(place) != TMPFS_MAGIC:
                raise InvalidArgument("the other container has no shared memory of its own")
            return m.clone_tree(place)
        finally:
            os.close(place)
    finally:
        os.close(root)
