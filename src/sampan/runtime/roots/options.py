"""The mount options of the OCI specification, compiled to what the mount calls take.

Source: runtime-spec config.md ("Linux mount options"), mount(8), mount_setattr(2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sampan.linux import mounts as m
from sampan.runtime.roots.sources import BindSource
from sampan.spec.runtime import LinuxIDMapping, Mount

#: option → (attributes to set, attributes to clear)
ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (m.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, m.MOUNT_ATTR_RDONLY),
    "nosuid": (m.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, m.MOUNT_ATTR_NOSUID),
    "nodev": (m.MOUNT_ATTR_NODEV, 0),
    "dev": (0, m.MOUNT_ATTR_NODEV),
    "noexec": (m.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, m.MOUNT_ATTR_NOEXEC),
    "noatime": (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR_ATIME),
    "atime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR_ATIME),
    "relatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR_ATIME),
    "norelatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR_ATIME),
    "strictatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR_ATIME),
    "nostrictatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR_ATIME),
    "nodiratime": (m.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, m.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, m.MOUNT_ATTR_NOSYMFOLLOW),
}

#: The same with a leading "r" holds for every mount below (rro, rnosuid …).
RECURSIVE_ATTRIBUTES = {f"r{name}": value for name, value in ATTRIBUTES.items()}

#: Flags of the file system rather than of the mount.
SUPERBLOCK = {"sync", "dirsync", "lazytime", "mand"}
IGNORED = {
    *("defaults", "async", "nolazytime", "nomand", "silent", "loud", "auto", "noauto"),
    *("user", "nouser", "users", "owner", "group", "_netdev", "nofail", "iversion", "noiversion"),
    *("acl", "noacl", "copy", "nocopy"),
}

#: option → (propagation, of all mounts below too)
PROPAGATION: dict[str, tuple[int, bool]] = {
    "private": (m.MS_PRIVATE, False),
    "rprivate": (m.MS_PRIVATE, True),
    "slave": (m.MS_SLAVE, False),
    "rslave": (m.MS_SLAVE, True),
    "shared": (m.MS_SHARED, False),
    "rshared": (m.MS_SHARED, True),
    "unbindable": (m.MS_UNBINDABLE, False),
    "runbindable": (m.MS_UNBINDABLE, True),
}

BY_OWNER, CHOWN = "idmap=owner", "U"  # ours: see owning.py


@dataclass(slots=True)
class Planned:
    """One mount, ready to be made: nothing of it needs to be looked up later."""

    destination: bytes
    kind: str  # "bind" or a file system type
    source: bytes
    attr_set: int = 0
    attr_clr: int = 0
    all_set: int = 0  # of the mount and all below it
    all_clr: int = 0
    recursive: bool = False  # rbind
    data: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    propagation: list[tuple[int, bool]] = field(default_factory=list)
    copy_up: bool = False
    id_maps: tuple[list[LinuxIDMapping], list[LinuxIDMapping]] | None = None
    id_map_all: bool = False
    by_owner: bool = False  # id-mapped so that the source's owner is the container's user
    chown: bool = False  # all files of the source are given to the container's user
    host_copy: bytes = b""  # what is bound instead, where the kernel refuses a new file system
    more: BindSource = field(default_factory=BindSource)
    of_host: bool = False  # of a namespace of the host, where the root of another may not mount
    tree: int = -1  # a detached mount that the supervisor has opened already
    userns: int = -1  # descriptor of the user namespace of an id-mapped mount

    @property
    def is_read_only(self) -> bool:
        """Tell whether the mount itself is to be read-only."""
        return bool((self.attr_set | self.all_set) & m.MOUNT_ATTR_RDONLY)


def plan(
    mount: Mount,
    container_maps: tuple[list[LinuxIDMapping], list[LinuxIDMapping]] | None = None,
) -> Planned:
    """Compile one mount; `container_maps` serve an `idmap` without mappings of its own."""
    planned = Planned(
        destination=mount.destination.encode("utf-8", "surrogateescape"),
        kind=mount.type or "bind",
        source=mount.source.encode("utf-8", "surrogateescape"),
    )
    for option in mount.options:
        _apply(planned, option, container_maps)
    if mount.uid_mappings or mount.gid_mappings:
        planned.id_maps = (mount.uid_mappings, mount.gid_mappings)
    return planned


def _apply(
    planned: Planned,
    option: str,
    container_maps: tuple[list[LinuxIDMapping], list[LinuxIDMapping]] | None,
) -> None:
    if option in ATTRIBUTES:
        on, off = ATTRIBUTES[option]
        planned.attr_set = planned.attr_set & ~off | on
        planned.attr_clr = planned.attr_clr & ~on | off
    elif option in RECURSIVE_ATTRIBUTES:
        on, off = RECURSIVE_ATTRIBUTES[option]
        planned.all_set = planned.all_set & ~off | on
        planned.all_clr = planned.all_clr & ~on | off
    elif option in PROPAGATION:
        planned.propagation.append(PROPAGATION[option])
    elif option in ("bind", "rbind"):
        planned.kind, planned.recursive = "bind", option == "rbind"
    elif option in ("idmap", "ridmap"):
        planned.id_maps, planned.id_map_all = container_maps or ([], []), option == "ridmap"
    elif option == BY_OWNER:
        planned.by_owner = True
    elif option == CHOWN:
        planned.chown = True
    elif option == "tmpcopyup":
        planned.copy_up = True
    elif option in SUPERBLOCK or option not in IGNORED:
        key, equals, value = option.encode("utf-8", "surrogateescape").partition(b"=")
        planned.data.append((key, value if equals else None))
