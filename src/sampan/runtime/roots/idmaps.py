"""Containers in user namespaces: id-mapped mounts, and what their root could not open itself."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sampan.errors import InvalidArgument
from sampan.linux import mounts
from sampan.runtime.roots import mounting, owning
from sampan.runtime.roots.options import Planned
from sampan.runtime.starting import prepare, user_namespaces
from sampan.runtime.starting.channel import reason
from sampan.runtime.starting.init import Setup
from sampan.spec.runtime import Linux, LinuxIDMapping

if TYPE_CHECKING:
    from sampan.runtime.starting.requests import LaunchRequest


def open_id_maps(plan: list[Planned], known: dict[bytes, int] | None = None) -> None:
    """Make a user namespace for every different mapping of an id-mapped mount.

    `known` are those that exist already, by `key` of their maps.
    """
    made = dict(known or {})
    for mount in plan:
        if not mount.id_maps:
            continue
        name = key(*mount.id_maps)
        if name not in made:
            made[name] = user_namespaces.make(*mount.id_maps).user
        mount.userns = made[name]


def key(uids: list[LinuxIDMapping], gids: list[LinuxIDMapping]) -> bytes:
    """Return what two equal pairs of maps have in common."""
    return prepare.id_map(uids) + b"/" + prepare.id_map(gids)


def host_id(maps: list[LinuxIDMapping], inside: int) -> int:
    """Return the host's number of an id of a container; -1 if it has none."""
    for each in maps:
        if each.container_id <= inside < each.container_id + each.size:
            return each.host_id + inside - each.container_id
    return -1 if maps else inside


def read_uid_map(pid: int) -> list[LinuxIDMapping]:
    """Return the uid map of a process; raises OSError."""
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        rows = [list(map(int, line.split())) for line in file]
    return [LinuxIDMapping(container_id=row[0], host_id=row[1], size=row[2]) for row in rows]


def give_streams(stdio: tuple[int, int, int], uid: int) -> None:
    """Give pipes to the user of a container, who may want to open /dev/stdout by name.

    Its own init cannot: they belong to root of the host, who does not exist inside.
    """
    for fd in stdio:
        status = os.fstat(fd)
        if uid >= 0 and (stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)):
            os.fchown(fd, uid, -1)


def open_sources(setup: Setup, request: LaunchRequest, *, private: bool) -> None:
    """Open what init could not: sources that are id-mapped or given away.

    In a `private` user namespace also all other sources of binds, and the root's path.
    """
    known = {}
    linux, user = request.spec.linux or Linux(), setup.program
    if request.user_namespace is not None:
        known[key(linux.uid_mappings, linux.gid_mappings)] = request.user_namespace
    open_id_maps(setup.mounts, known)
    kind = {"private": mounts.MS_PRIVATE}.get(setup.propagation.removeprefix("r"), mounts.MS_SLAVE)
    on_host = host_id(linux.uid_mappings, user.uid), host_id(linux.gid_mappings, user.gid)
    owning.open_owned(setup.mounts, (user.uid, user.gid), on_host, kind)
    if not private:
        return
    for mount in setup.mounts:
        if mount.of_host:
            attributes = mount.attr_set | mount.all_set
            mount.tree = mounts.new_filesystem(mount.kind.encode(), mount.data, attributes)
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
