"""What modes of volumes and binds, and user namespaces, mean for mounts."""

from __future__ import annotations

import pytest

from sampan.engine.oci.ownership import apply
from sampan.spec.docker.containers import MountPoint
from sampan.spec.runtime import LinuxIDMapping, Mount
from sampan.spec.user_modes import IdMaps
from tests.unit.engine.fakes import container

RANGE = [LinuxIDMapping(container_id=0, host_id=100_000, size=1000)]


def applied(kind: str, mode: str, *, private: bool) -> Mount:
    record = container().record
    record.mounts = [MountPoint(type=kind, source="/s", destination="/d", mode=mode)]
    record.id_maps = IdMaps(uids=RANGE, gids=RANGE) if private else None
    mounts = [
        Mount(destination="/d", type="bind", source="/s", options=["rbind"]),
        Mount(destination="/etc/hosts", type="bind", source="/hosts", options=["rbind"]),
    ]
    apply(record, mounts)
    assert mounts[1].options == ["rbind"]
    return mounts[0]


@pytest.mark.parametrize(
    ("kind", "mode", "private", "added"),
    [
        ("bind", "", False, []),
        ("bind", "", True, []),
        ("volume", "", False, []),
        ("volume", "ro", True, ["idmap"]),
        ("bind", "idmap", False, ["idmap=owner"]),
        ("volume", "idmap", True, ["idmap=owner"]),
        ("bind", "U", True, ["U"]),
        ("volume", "U", True, ["U", "idmap"]),
    ],
)
def test_options_are_added(kind: str, mode: str, private: bool, added: list[str]) -> None:
    mount = applied(kind, mode, private=private)
    assert mount.options == ["rbind", *added]
    assert mount.uid_mappings == []


def test_explicit_maps_are_the_hosts_or_with_an_at_the_containers() -> None:
    mount = applied("bind", "idmap=uids=5-6-1;gids=@5-6-1", private=True)
    assert mount.uid_mappings == [LinuxIDMapping(container_id=5, host_id=6, size=1)]
    assert mount.gid_mappings == [LinuxIDMapping(container_id=5, host_id=100_006, size=1)]
    assert mount.options == ["rbind"]
