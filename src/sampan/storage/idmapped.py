"""Id-mapped mounts: files keep their owners on disk, and show others to a user namespace.

What is user 0 on disk is the root of that namespace in the mount, and the other way round for what
is written: no file is copied, none changes its owner, and several containers can have the same
files in ranges of their own at once. Decision 025.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux import capabilities, mounts, process
from sampan.linux.filesystems import filesystem_name

_OVERFLOW: Final = 65534  # /proc/sys/kernel/overflowuid: what no id of the namespace stands for


def id_map(mount: int, path: Path, user: int) -> None:
    """Map a detached mount of `path` by a user namespace; raises Unsupported."""
    try:
        mounts.mount_setattr(
            mount, b"", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_IDMAP, userns_fd=user
        )
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            raise
        raise Unsupported(
            f"a user namespace needs id-mapped mounts, which {filesystem_name(path)} does not have"
            f" with this kernel ({path}): run the container with --userns=host"
        ) from error


def bound(folder: int, path: Path, user: int, *, read_only: bool) -> int:
    """Return a detached bind mount of an open directory, which is closed; `path` is where it is.

    It is mapped by the user namespace `user` unless that is -1; Unsupported if it cannot be.
    """
    try:
        mount = mounts.clone_tree(folder)
    finally:
        os.close(folder)
    try:
        if user >= 0:
            id_map(mount, path, user)
        if read_only:
            mounts.mount_setattr(mount, b"", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
    except BaseException:
        os.close(mount)
        raise
    return mount


def id_mapped(path: Path, user: int) -> int:
    """Return a detached, id-mapped bind mount of a directory of root."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount = bound(fd, path, user, read_only=False)
    try:
        root_of(mount)
    except BaseException:
        os.close(mount)
        raise
    return mount


def root_of(folder: int) -> tuple[int, int]:
    """Return the ids that root has in an id-mapped mount: those of a directory of root in it."""
    status = os.fstat(folder)
    if _OVERFLOW in (status.st_uid, status.st_gid):
        raise InvalidArgument("the user namespace of a container has to map its user and group 0")
    return status.st_uid, status.st_gid


@contextmanager
def file_ids(uid: int, gid: int) -> Iterator[None]:
    """Let this thread make files as `uid` and `gid`, with the capabilities that it has.

    An overlay keeps the credentials of who mounted it, and makes whiteouts with them. The ids of
    our own root do not exist in an id-mapped layer: without this its work directory would fail,
    and the kernel would go on with a read-only overlay.
    """
    sets = capabilities.capget()
    process.setfsgid(gid)
    process.setfsuid(uid)
    try:
        # To give up the file-system id 0 is to give up the capabilities over files.
        capabilities.capset(sets.effective, sets.permitted, sets.inheritable)
        yield
    finally:
        process.setfsuid(os.geteuid())
        process.setfsgid(os.getegid())
        capabilities.capset(sets.effective, sets.permitted, sets.inheritable)
