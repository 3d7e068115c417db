"""Whose the files of volumes and binds are inside a container: id maps of its mounts.

Volumes hold files as images do, with the ids that containers know: in a user namespace they are
mapped like the root, so containers in different ranges can share one. Binds show the host's ids,
unless `-v SOURCE:TARGET:idmap` or `U` say otherwise.
"""

from __future__ import annotations

from collections.abc import Collection

from sampan.engine.containers.container import Record
from sampan.runtime.roots.options import BY_OWNER, CHOWN
from sampan.spec.docker.containers import MountPoint
from sampan.spec.ownership import on_host, split_ownership
from sampan.spec.runtime import Mount


def apply(record: Record, found: list[Mount]) -> None:
    """Add what concerns owners to the mounts of a container."""
    points = {each.destination: each for each in record.mounts}
    for mount in found:
        point = points.get(mount.destination)
        if point is not None and mount.type == "bind":
            _apply(record, point, mount)


def leave(found: list[Mount], foreign: Collection[str]) -> None:
    """Leave volumes as they are whose ids others decide on, at these destinations."""
    for mount in found:
        if mount.destination in foreign and mount.type == "bind":
            mount.options = [option for option in mount.options if option != "idmap"]


def _apply(record: Record, point: MountPoint, mount: Mount) -> None:
    _, ownership = split_ownership(point.mode)
    uids, gids = (record.id_maps.uids, record.id_maps.gids) if record.id_maps else ([], [])
    if ownership.chown:
        mount.options = [*mount.options, CHOWN]
    if ownership.owner:
        mount.options = [*mount.options, BY_OWNER]
    elif ownership.uids:
        inside = ownership.inside
        mount.uid_mappings = on_host(ownership.uids, uids if "uids" in inside else [])
        mount.gid_mappings = on_host(ownership.gids, gids if "gids" in inside else [])
    elif uids and point.type == "volume":
        mount.options = [*mount.options, "idmap"]
