"""Specifications for a box with one thing changed: mounts, namespaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sampan.spec.runtime import LinuxIDMapping, LinuxNamespace, Mount, Spec
from tests.box import spec


def with_mounts(script: str, *extra: Mount, **process: Any) -> Spec:
    """Return a default specification with more mounts."""
    wanted = spec("sh", "-c", script, **process)
    wanted.mounts += extra
    return wanted


def bind(source: Path | str, destination: str, *options: str) -> Mount:
    """Return a bind mount."""
    return Mount(
        destination=destination, type="bind", source=str(source), options=["rbind", *options]
    )


def without(wanted: Spec, *destinations: str) -> Spec:
    """Leave mounts out."""
    wanted.mounts = [mount for mount in wanted.mounts if mount.destination not in destinations]
    return wanted


def in_user_namespace(wanted: Spec) -> Spec:
    """Put a container into a user namespace of its own."""
    assert wanted.linux is not None
    wanted.linux.namespaces.append(LinuxNamespace(type="user"))
    wanted.linux.uid_mappings = [LinuxIDMapping(container_id=0, host_id=200000, size=65536)]
    wanted.linux.gid_mappings = wanted.linux.uid_mappings
    return wanted
