"""Sources of mounts that are to belong to the container's user: given to it, or id-mapped.

Done by root of the host, before the container has a process of its own.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from sampan.errors import InvalidArgument
from sampan.linux import mounts
from sampan.linux.trees import Walk
from sampan.runtime.roots import mounting
from sampan.runtime.roots.options import Planned
from sampan.runtime.roots.sources import open_source
from sampan.runtime.starting import user_namespaces
from sampan.spec.runtime import LinuxIDMapping

#: Folders of the system, which nobody wants to give away with all that is in them.
_OF_THE_SYSTEM: Final = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr")
_TOPS: Final = ("home", "media", "mnt", "opt", "root", "run", "srv", "tmp", "var")

Ids = tuple[int, int]


def open_owned(plan: list[Planned], user: Ids, on_host: Ids, propagation: int) -> None:
    """Open the binds among `plan` that are to belong to a user, and see to it.

    `user` are the ids inside, `on_host` the same as the host counts them; -1 for none. Raises
    InvalidArgument that names the source.
    """
    for mount in plan:
        if not (mount.chown or mount.by_owner) or mount.tree >= 0:
            continue
        if -1 in on_host:
            raise InvalidArgument(f"user {user[0]}:{user[1]} does not exist in the user namespace")
        try:
            mount.tree = _opened(mount, user, on_host)
        except OSError as error:
            where = os.fsdecode(mount.source)
            raise InvalidArgument(f'error mounting "{where}": {error.strerror}') from None
        everything = mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE
        mounts.mount_setattr(mount.tree, b"", everything, propagation=propagation)


def _opened(mount: Planned, user: Ids, on_host: Ids) -> int:
    flags = mounts.OPEN_TREE_CLONE | (mounts.AT_RECURSIVE if mount.recursive else 0)
    looked_at = _refuse_system(mount.source) if mount.chown else None
    tree = open_source(mount.source, mount.more, flags)
    try:
        if looked_at and not mount.more.subpath and not os.path.samestat(looked_at, os.fstat(tree)):
            raise OSError(errno.ESTALE, "the path leads elsewhere now")
        if mount.chown:
            # In an id-mapped volume, files have the ids that they have inside.
            give_away(tree, user if mount.userns >= 0 else on_host)
        else:
            mount.userns = _one_owner(os.fstat(tree), on_host)
        return mounting.finish_bind(tree, mount)
    except BaseException:
        os.close(tree)
        raise


def _one_owner(status: os.stat_result, shown: Ids) -> int:
    """Return a user namespace that has one user: the owner of a source, who is `shown` as one."""
    uids, gids = (
        [LinuxIDMapping(container_id=disk, host_id=number, size=1)]
        for disk, number in ((status.st_uid, shown[0]), (status.st_gid, shown[1]))
    )
    return user_namespaces.make(uids, gids).user


def give_away(tree: int, ids: Ids) -> None:
    """Give a file, or a folder with all that is in it, to a user; follows no link.

    Files with several links stay as they are: another name of one may be anybody's.
    """
    status = os.fstat(tree)
    _chown(tree, status, ids)
    if not stat.S_ISDIR(status.st_mode):
        return
    walk = Walk(tree)
    for node in walk:
        if node.status.st_dev != status.st_dev:
            walk.prune()  # something else is mounted there
        else:
            _give(node.folder, node.name, ids)


def _give(folder: int, name: bytes, ids: Ids) -> None:
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return  # it vanished meanwhile
    try:
        _chown(fd, os.fstat(fd), ids)
    finally:
        os.close(fd)


def _chown(fd: int, status: os.stat_result, ids: Ids) -> None:
    """Change the owner of exactly the file that was looked at."""
    is_only_name = stat.S_ISDIR(status.st_mode) or status.st_nlink == 1
    if is_only_name and (status.st_uid, status.st_gid) != ids:
        os.chown(b"/proc/self/fd/%d" % fd, *ids)


def _refuse_system(source: bytes) -> os.stat_result:
    path = os.path.realpath(os.fsdecode(source))
    parts = path.strip("/").split("/")
    if parts[0] in ("", *_OF_THE_SYSTEM) or (len(parts) == 1 and parts[0] in _TOPS):
        raise InvalidArgument(f"{path} is a folder of the system: its files are not given away (U)")
    return os.stat(path)
