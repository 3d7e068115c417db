"""Making the mounts of a specification inside a container's root, by descriptor.

The root belongs to strangers: any part of a path in it may be a symbolic link. So a destination is
opened with openat2(RESOLVE_IN_ROOT), made component by component if it is missing, and the mount
is moved onto that descriptor (CVE-2021-30465, CVE-2024-45310). Sources are paths of the host and
are opened before pivot_root.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sampan.errors import InvalidArgument
from sampan.linux import mounts as m
from sampan.linux import paths
from sampan.linux.filesystems import filesystem_name
from sampan.runtime.roots import copyup
from sampan.runtime.roots.options import Planned
from sampan.runtime.roots.sources import open_source, part_of
from sampan.runtime.starting.channel import reason

#: What may be mounted over inside /proc. Source: runc rootfs_linux.go, checkProcMount.
PROC_ALLOWED = frozenset(
    b"/proc/" + name
    for name in (
        *(b"cpuinfo", b"diskstats", b"meminfo", b"stat", b"swaps", b"uptime", b"loadavg"),
        *(b"slabinfo", b"sys/kernel/ns_last_pid", b"sys/crypto/fips_enabled"),
    )
)


@dataclass(slots=True)
class CgroupView:
    """What the cgroup mount of a container shows."""

    #: v1 and hybrid: (name below /sys/fs/cgroup, host path of the container's group, type, data)
    hierarchies: list[tuple[bytes, bytes, bytes, bytes]] = field(default_factory=list)
    links: list[tuple[bytes, bytes]] = field(default_factory=list)  # cpu → cpu,cpuacct
    unified: bytes = b""  # v2 alone: host path of the container's group
    own_namespace: bool = False


@dataclass(slots=True)
class Made:
    """Descriptors of mounts that are needed later."""

    devpts: int = -1
    dev_is_bound: bool = False
    read_only: list[int] = field(default_factory=list)  # tmpfs to be made so when all is in them


def clean(path: bytes) -> bytes:
    """Return an absolute path without empty, `.` and `..` parts, as it reads inside a root."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/" + b"/".join(parts)


def open_bind(planned: Planned) -> int:
    """Return a detached copy of the source's mount, with its attributes set."""
    flags = m.OPEN_TREE_CLONE | (m.AT_RECURSIVE if planned.recursive else 0)
    tree = open_source(planned.source, planned.more, flags)
    try:
        return finish_bind(tree, planned)
    except BaseException:
        os.close(tree)
        raise


def finish_bind(tree: int, planned: Planned) -> int:
    """Map the ids of a detached copy, set its attributes, and return it."""
    if planned.userns >= 0:
        _map_ids(tree, planned)
    set_attributes(tree, planned)
    return tree


def _map_ids(tree: int, planned: Planned) -> None:
    below = m.AT_RECURSIVE if planned.id_map_all else 0
    flags = m.AT_EMPTY_PATH | below
    try:
        m.mount_setattr(tree, b"", flags, m.MOUNT_ATTR_IDMAP, userns_fd=planned.userns)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        source = os.fsdecode(planned.source)
        raise InvalidArgument(
            f'cannot map the ids of "{source}" at "{os.fsdecode(planned.destination)}": its file'
            f" system ({filesystem_name(Path(source))}) has no id-mapped mounts with this kernel"
        ) from None


def set_attributes(tree: int, planned: Planned) -> None:
    """Apply the attribute options of a mount to its descriptor."""
    for on, off, below in (
        (planned.all_set, planned.all_clr, m.AT_RECURSIVE),
        (planned.attr_set, planned.attr_clr, 0),
    ):
        if on & m.MOUNT_ATTR_ATIME:
            off |= m.MOUNT_ATTR_ATIME  # the kernel wants the whole field cleared first
        if on or off:
            m.mount_setattr(tree, b"", m.AT_EMPTY_PATH | below, on, off)


def make_all(root: int, plan: list[Planned], cgroups: CgroupView) -> Made:
    """Make every mount in order; raises InvalidArgument that names the one that failed."""
    made = Made()
    for planned in plan:
        try:
            make(root, planned, cgroups, made)
        except OSError as error:
            what = os.fsdecode(planned.source or planned.kind.encode())
            where = os.fsdecode(planned.destination)
            raise InvalidArgument(
                f'error mounting "{what}" to rootfs at "{where}": {reason(error)}'
            ) from None
    return made


def make(root: int, planned: Planned, cgroups: CgroupView, made: Made) -> None:
    """Make one mount."""
    destination = clean(planned.destination)
    if planned.kind == "bind":
        tree = planned.tree if planned.tree >= 0 else open_bind(planned)
        _attach_bind(root, destination, tree, planned)
        made.dev_is_bound |= destination == b"/dev"
        return
    if planned.kind in ("proc", "sysfs"):
        target = _ordinary_directory(root, destination, planned.kind)
    else:
        _refuse_in_proc(destination)
        if destination == b"/proc":
            raise _not_proc()
        if planned.kind == "tmpfs":
            _make_place_of_tmpfs(root, destination)
        target = _open_target(root, destination, directory=True)
    try:
        if planned.kind in ("cgroup", "cgroup2"):
            mount_cgroup(target, planned, cgroups)
            return
        mount = _new(planned, target)
        try:
            m.attach(mount, target)
            propagate(mount, planned)
            if planned.kind == "devpts":
                made.devpts = os.dup(mount)
            elif planned.kind == "tmpfs" and planned.is_read_only:
                made.read_only.append(os.dup(mount))
        finally:
            os.close(mount)
    finally:
        os.close(target)


def _attach_bind(root: int, destination: bytes, tree: int, planned: Planned) -> None:
    try:
        if planned.more.tree >= 0 and planned.more.subpath:
            whole, tree = tree, -1
            tree = part_of(whole, planned.more.subpath, planned.source, root)
        mode = os.fstat(tree).st_mode
        _refuse_in_proc(destination)
        if destination == b"/proc" and not _is_procfs(tree):
            raise _not_proc()
        is_filled = planned.copy_up and paths.exists_in_root(root, destination)
        target = _open_target(root, destination, directory=stat.S_ISDIR(mode))
        try:
            if destination not in PROC_ALLOWED and m.filesystem_magic(target) == m.PROC_SUPER_MAGIC:
                raise _inside_proc(destination)  # a link led there
            if is_filled and not planned.is_read_only:
                copyup.fill(target, tree)
            m.attach(tree, target)
            propagate(tree, planned)
        finally:
            os.close(target)
    finally:
        if tree >= 0:
            os.close(tree)
        planned.tree = -1


def propagate(mount: int, planned: Planned) -> None:
    """Set the propagation of an attached mount, in the order of its options."""
    for kind, recursive in planned.propagation:
        flags = m.AT_EMPTY_PATH | (m.AT_RECURSIVE if recursive else 0)
        m.mount_setattr(mount, b"", flags, propagation=kind)


def _open_target(root: int, destination: bytes, *, directory: bool) -> int:
    if destination == b"/":
        raise InvalidArgument("a mount over the root file system itself is not allowed")
    if directory:
        return paths.mkdir_in_root(root, destination)
    return paths.make_file_in_root(root, destination)


def _make_place_of_tmpfs(root: int, destination: bytes) -> None:
    """Make a missing directory as the kernel makes the root of a tmpfs: anybody may write there.

    A tmpfs takes the mode of the directory below it, at this start and the next ones.
    """
    folder, _, name = destination.rstrip(b"/").rpartition(b"/")
    if name:
        with suppress(FileExistsError):
            above = paths.mkdir_in_root(root, folder)
            try:
                os.mkdir(name, 0o1777, dir_fd=above)
            finally:
                os.close(above)


def _ordinary_directory(root: int, destination: bytes, kind: str) -> int:
    """Open the place of proc or sysfs: no link may lead there (CVE-2019-19921, CVE-2023-27561)."""
    try:
        return paths.mkdir_in_root(root, destination, links=False)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
            where = os.fsdecode(destination)
            raise InvalidArgument(
                f'filesystem "{kind}" must be mounted on ordinary directory: {where}'
            ) from None
        raise


def _refuse_in_proc(destination: bytes) -> None:
    if destination.startswith(b"/proc/") and destination not in PROC_ALLOWED:
        raise _inside_proc(destination)


def _not_proc() -> InvalidArgument:
    """Return why nothing else is mounted in the place of procfs: masks would be about nothing."""
    return InvalidArgument('"/proc" cannot be mounted because it is not of type proc')


def _is_procfs(tree: int) -> bool:
    """Tell whether a mount is a whole procfs, the only thing that may be bound to /proc."""
    is_proc = m.filesystem_magic(tree) == m.PROC_SUPER_MAGIC
    return is_proc and os.fstat(tree).st_ino == m.PROC_ROOT_INO


def _inside_proc(destination: bytes) -> InvalidArgument:
    where = os.fsdecode(destination)
    return InvalidArgument(f'"{where}" cannot be mounted because it is inside /proc')


def _new(planned: Planned, target: int) -> int:
    """Return a detached mount of a new file system."""
    if planned.tree >= 0:
        tree, planned.tree = planned.tree, -1
        return tree
    if planned.kind == "tmpfs":
        return _new_tmpfs(planned, target)
    attributes = planned.attr_set | planned.all_set
    source = planned.source or planned.kind.encode()
    try:
        return m.new_filesystem(planned.kind.encode(), planned.data, attributes, source)
    except PermissionError:
        if not planned.host_copy:
            raise
    bound = Planned(planned.destination, "bind", planned.host_copy, recursive=True)
    bound.all_set = attributes
    return open_bind(bound)


def _new_tmpfs(planned: Planned, target: int) -> int:
    data = list(planned.data)
    if not any(key == b"mode" for key, _ in data):
        data.append((b"mode", b"%o" % stat.S_IMODE(os.fstat(target).st_mode)))
    attributes = (planned.attr_set | planned.all_set) & ~m.MOUNT_ATTR_RDONLY  # that comes last
    mount = m.new_filesystem(b"tmpfs", data, attributes, planned.source or b"tmpfs")
    try:
        if planned.copy_up:
            copyup.copy(target, mount)
    except OSError:
        os.close(mount)
        raise
    return mount


def mount_cgroup(target: int, planned: Planned, view: CgroupView) -> None:
    """Show the container its own control groups, and no others."""
    attributes = planned.attr_set | planned.all_set
    if view.unified:
        mount = _unified(view, attributes)
        try:
            m.attach(mount, target)
        finally:
            os.close(mount)
        return
    base = m.new_filesystem(b"tmpfs", [(b"mode", b"755")], attributes & ~m.MOUNT_ATTR_RDONLY)
    try:
        m.attach(base, target)
        for name, source, kind, data in view.hierarchies:
            _hierarchy(base, name, source, kind, data, attributes, view.own_namespace)
        for link, goal in view.links:
            os.symlink(goal, link, dir_fd=base)
        m.mount_setattr(base, b"", m.AT_EMPTY_PATH, attributes & m.MOUNT_ATTR_RDONLY)
    finally:
        os.close(base)


def _unified(view: CgroupView, attributes: int) -> int:
    if view.own_namespace:
        try:
            return m.new_filesystem(b"cgroup2", [], attributes, b"cgroup")
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EBUSY, errno.EINVAL):
                raise
    bound = Planned(b"", "bind", view.unified, attr_set=attributes)
    return open_bind(bound)


def _hierarchy(
    base: int,
    name: bytes,
    source: bytes,
    kind: bytes,
    data: bytes,
    attributes: int,
    own_namespace: bool,
) -> None:
    os.mkdir(name, 0o755, dir_fd=base)
    target = os.open(name, paths.O_DIRECTORY, dir_fd=base)
    try:
        if own_namespace:
            options: list[tuple[bytes, bytes | None]] = []
            for option in data.split(b",") if data else ():
                key, equals, value = option.partition(b"=")
                options.append((key, value if equals else None))
            mount = m.new_filesystem(kind, options, attributes, b"cgroup")
        else:
            mount = open_bind(Planned(b"", "bind", source, attr_set=attributes))
        try:
            m.attach(mount, target)
        finally:
            os.close(mount)
    finally:
        os.close(target)
