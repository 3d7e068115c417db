"""Where the control groups of containers are: in a folder of ours, or in systemd's slices.

Source: moby daemon/daemon_unix.go (cgroup drivers, verifyPlatformContainerSettings),
oci_linux.go WithCgroups.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Final, Literal

from sampan.errors import InvalidArgument
from sampan.spec.cgroup_names import SLICE, slice_path

Driver = Literal["cgroupfs", "systemd"]
PARENTS: Final[dict[Driver, str]] = {"cgroupfs": "/sampan", "systemd": "system.slice"}


@dataclass(frozen=True, slots=True)
class CgroupPlacement:
    """The daemon's cgroup driver, and its `--cgroup-parent`."""

    driver: Driver = "cgroupfs"
    parent: str = ""

    def path(self, container: str, parent: str = "") -> str:
        """Return the container's place below each hierarchy; raises InvalidArgument."""
        wanted = parent or self.parent or PARENTS[self.driver]
        if self.driver == "systemd":
            return f"{_slice(wanted)}/sampan-{container}.scope"
        folder = posixpath.normpath(f"/{wanted}").replace("//", "/").rstrip("/")
        return f"{folder}/{container}"

    def check(self, parent: str) -> None:
        """Raise InvalidArgument, in Docker's words, for a parent that this driver cannot have."""
        if self.driver == "systemd" and parent:
            _slice(parent)


def _slice(name: str) -> str:
    if len(name) <= len(SLICE) or not name.endswith(SLICE):
        raise InvalidArgument(
            'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"'
        )
    return slice_path(name)
