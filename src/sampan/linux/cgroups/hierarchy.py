"""Which cgroup hierarchies this host has, and the `Cgroup` that fits them."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from typing import Literal

from sampan.linux.cgroups import v1, v2
from sampan.linux.cgroups.cgroup import Cgroup
from sampan.linux.cgroups.files import DIRECTORY
from sampan.linux.mountinfo import unescaped

#: Controllers that decide: where v1 has one of these, v1 does the work and v2 only helps.
_DECIDING = frozenset({"memory", "cpu", "pids", "devices", "freezer"})


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """The mounted hierarchies; the descriptors live as long as the process."""

    v1: tuple[v1.Hierarchy, ...] = ()
    unified: int = -1  # descriptor of the mount point, -1 if not mounted
    unified_mount: str = ""
    controllers: frozenset[str] = field(default_factory=frozenset)  # of the unified hierarchy

    @property
    def mode(self) -> Literal["unified", "hybrid", "legacy", "none"]:
        """The name of the layout, as systemd calls it."""
        if any(_DECIDING.intersection(hierarchy.controllers) for hierarchy in self.v1):
            return "hybrid" if self.unified >= 0 else "legacy"
        return "unified" if self.unified >= 0 else "none"

    @property
    def version(self) -> int:
        """1 or 2, as `docker info` says it."""
        return 2 if self.mode == "unified" else 1

    def mounts(self) -> list[tuple[str, tuple[str, ...], str]]:
        """Return (mount point, controllers, file system type) of every hierarchy."""
        found = [(each.mount, each.controllers, "cgroup") for each in self.v1]
        if self.unified >= 0:
            found.append((self.unified_mount, tuple(sorted(self.controllers)), "cgroup2"))
        return found


@functools.cache
def detect() -> Hierarchies:
    """Find the hierarchies of this host, once per process."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse(file.read())


def parse(mountinfo: str) -> Hierarchies:
    """Open every hierarchy in a mountinfo(5) text; a hierarchy mounted twice counts once."""
    legacy: dict[str, v1.Hierarchy] = {}
    unified, unified_mount = -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(" "), (*right.split(" "), "", "")[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        device, mount = fields[2], unescaped(fields[4])
        if device in legacy or (kind == "cgroup2" and unified >= 0):
            continue
        try:
            fd = os.open(mount, DIRECTORY)
        except OSError:
            continue  # mounted over, or not ours to see
        if kind == "cgroup2":
            unified, unified_mount = fd, mount
        else:
            legacy[device] = v1.Hierarchy(fd, mount, _controllers(options))
    return Hierarchies(tuple(legacy.values()), unified, unified_mount, v2.controllers(unified))


def _controllers(options: str) -> tuple[str, ...]:
    """Return the controllers (and the `name=`) among a hierarchy's super options."""
    other = {"rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "favordynmods", "noprefix"}
    return tuple(
        option
        for option in options.split(",")
        if option not in other and not option.startswith("release_agent=")
    )


def open_cgroup(path: str, hierarchies: Hierarchies | None = None) -> Cgroup:
    """Return the cgroup at `path` below every hierarchy; nothing is created yet.

    Raises OSError (EINVAL) for a path that names no group below the root.
    """
    host = hierarchies or detect()
    if host.mode == "unified":
        if path.endswith(".scope"):
            from sampan.linux.cgroups import scopes  # only where systemd makes the cgroups

            if scopes.manages(path):
                return scopes.ScopedCgroup(host.unified, path)
        return v2.UnifiedCgroup(host.unified, path)
    beside = v2.UnifiedCgroup(host.unified, path) if host.unified >= 0 else None
    return v1.LegacyCgroup(host.v1, path, beside)
