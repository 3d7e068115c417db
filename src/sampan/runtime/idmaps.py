"""User namespaces: id maps, id-mapped mounts, and what their root could not open itself."""

from __future__ import annotations

import os
import signal

from sampan.errors import InvalidArgument
from sampan.linux import mounts, namespaces
from sampan.linux.namespaces import CLONE_NEWUSER
from sampan.runtime import mounting, prepare
from sampan.runtime.channel import reason
from sampan.runtime.init import Setup
from sampan.runtime.options import Planned
from sampan.spec.runtime import LinuxIDMapping


def write_id_maps(pid: int, uids: list[LinuxIDMapping], gids: list[LinuxIDMapping]) -> None:
    """Write the maps of a process that has just entered a new user namespace."""
    try:
        if os.geteuid() != 0:
            write(f"/proc/{pid}/setgroups", b"deny")
        write(f"/proc/{pid}/gid_map", prepare.id_map(gids))
        write(f"/proc/{pid}/uid_map", prepare.id_map(uids))
    except OSError as error:
        raise InvalidArgument(f"unable to write the id mappings: {reason(error)}") from None


def write(path: str, content: bytes) -> None:
    """Write a file of procfs in one go."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def open_id_maps(plan: list[Planned]) -> None:
    """Make a user namespace for every different mapping of an id-mapped mount."""
    made: dict[bytes, int] = {}
    for mount in plan:
        if not mount.id_maps:
            continue
        uids, gids = mount.id_maps
        key = prepare.id_map(uids) + b"/" + prepare.id_map(gids)
        if key not in made:
            made[key] = user_namespace(uids, gids)
        mount.userns = made[key]


def user_namespace(uids: list[LinuxIDMapping], gids: list[LinuxIDMapping]) -> int:
    """Return a descriptor of a new user namespace with these maps, and nobody inside."""
    pid, pidfd = namespaces.clone3(CLONE_NEWUSER)
    if pid == 0:
        while True:
            signal.pause()
    try:
        write_id_maps(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        namespaces.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)


def open_sources(setup: Setup) -> None:
    """Open what the root of a user namespace could not: the root's path, and bind sources."""
    open_id_maps(setup.mounts)
    kind = {"private": mounts.MS_PRIVATE}.get(setup.propagation.removeprefix("r"), mounts.MS_SLAVE)
    for mount in setup.mounts:
        if mount.kind != "bind" or mount.tree >= 0:
            continue
        try:
            mount.tree = mounting.open_bind(mount)
        except OSError as error:
            raise InvalidArgument(
                f'error mounting "{os.fsdecode(mount.source)}" to rootfs at '
                f'"{os.fsdecode(mount.destination)}": {reason(error)}'
            ) from None
        everything = mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE
        mounts.mount_setattr(mount.tree, b"", everything, propagation=kind)
    if isinstance(setup.root, bytes):
        from_host = mounts.OPEN_TREE_CLONE | mounts.AT_RECURSIVE
        setup.root = mounts.open_tree(mounts.AT_FDCWD, setup.root, from_host)
