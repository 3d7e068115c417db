"""The names of storage drivers. Imports next to nothing: the daemon's supervisor reads it.

Source: moby daemon/graphdriver/driver.go (order, refusals).
"""

from __future__ import annotations

from sampan.errors import Unsupported

#: All drivers, the best first.
NAMES = ("overlay", "btrfs", "fuse-overlayfs", "vfs")
ALIASES = {"overlay2": "overlay"}
REMOVED = {
    "aufs": "no kernel of kernel.org ever had it, and Docker has given it up",
    "devicemapper": "Docker has given it up; overlay on xfs or ext4 takes its place",
    "windowsfilter": "it is for Windows",
    "zfs": "the kernel has no ZFS of its own; overlay works on a data set of OpenZFS 2.2",
}


def named(name: str) -> str:
    """Return the name of a driver by any of its names; Unsupported if there is none."""
    name = ALIASES.get(name, name)
    if reason := REMOVED.get(name):
        raise Unsupported(f"driver not supported: {name}: {reason}")
    if name not in NAMES:
        raise Unsupported(f"driver not supported: {name}")
    return name
