"""Device nodes and the standard links of /dev, made below one descriptor of it.

/dev of the image may be a link to anywhere; it is opened without following any
(CVE-2026-41579), and everything is made relative to that descriptor.
"""

from __future__ import annotations

import errno
import os
import stat

from sampan.errors import InvalidArgument
from sampan.linux import mounts as m
from sampan.linux import paths
from sampan.runtime.roots import null
from sampan.runtime.roots.mounting import clean
from sampan.runtime.starting.channel import reason
from sampan.spec.runtime import LinuxDevice

KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}

#: Every container has these. Source: runtime-spec config-linux.md, "Default Devices".
DEFAULT = tuple(
    LinuxDevice(path=f"/dev/{name}", type="c", major=major, minor=minor, file_mode=0o666)
    for name, major, minor in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    )
)

LINKS = (
    (b"/proc/self/fd", b"fd"),
    (b"/proc/self/fd/0", b"stdin"),
    (b"/proc/self/fd/1", b"stdout"),
    (b"/proc/self/fd/2", b"stderr"),
)


def all_devices(wanted: list[LinuxDevice]) -> list[LinuxDevice]:
    """Return the default devices and those of a specification, which win."""
    named = {device.path for device in wanted}
    return [device for device in DEFAULT if device.path not in named] + wanted


def make_all(root: int, devices: list[LinuxDevice], *, bind: bool) -> None:
    """Make device nodes and links; with `bind` (in a user namespace) mount the host's nodes."""
    try:
        dev = paths.mkdir_in_root(root, b"/dev", links=False)
    except OSError as error:
        raise InvalidArgument(f"/dev of the container is no directory: {reason(error)}") from None
    try:
        for device in devices:
            _make(root, dev, device, bind=bind)
        _links(dev)
    finally:
        os.close(dev)


def _make(root: int, dev: int, device: LinuxDevice, *, bind: bool) -> None:
    path = clean(device.path.encode("utf-8", "surrogateescape"))
    if path in (b"/dev/ptmx", b"/dev/console", b"/dev"):
        return  # runc's rule: they belong to the container's own terminals
    folder, _, name = path.rpartition(b"/")
    try:
        if folder == b"/dev":
            parent = os.dup(dev)
        else:
            parent = paths.mkdir_in_root(root, folder, links=not path.startswith(b"/dev/"))
        try:
            if bind:
                _bind(parent, name, device)
            else:
                _node(parent, name, device)
        finally:
            os.close(parent)
    except OSError as error:
        raise InvalidArgument(
            f'error creating device nodes: "{device.path}": {reason(error)}'
        ) from None


def _node(parent: int, name: bytes, device: LinuxDevice) -> None:
    kind = KINDS.get(device.type)
    if kind is None:
        raise InvalidArgument(f"{device.type} is not a valid device type for {device.path}")
    mode = 0o666 if device.file_mode is None else stat.S_IMODE(device.file_mode)
    number = os.makedev(device.major, device.minor) if device.type != "p" else 0
    try:
        paths.mknodat(parent, name, kind | mode, number)
    except FileExistsError:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_IFMT(status.st_mode) != kind or status.st_rdev != number:
            raise
    except PermissionError:
        _bind(parent, name, device)
        return
    if device.uid or device.gid:
        os.chown(name, device.uid or 0, device.gid or 0, dir_fd=parent, follow_symlinks=False)


def _bind(parent: int, name: bytes, device: LinuxDevice) -> None:
    source = _on_host(device)
    try:
        tree = null.read_only_copy(source)
    finally:
        os.close(source)
    try:
        target = paths.make_file_in_root(parent, name)
        try:
            m.attach(tree, target)
        finally:
            os.close(target)
    finally:
        os.close(tree)


def _on_host(device: LinuxDevice) -> int:
    """Open the host's node of a device: at the same path, or where the kernel says that it is."""
    problem: OSError | None = None
    for path in (device.path, _usual_path(device)):
        try:
            source = os.open(path, paths.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            problem = problem or error
            continue
        status = os.fstat(source)
        if stat.S_IFMT(status.st_mode) == KINDS.get(device.type) and (
            device.type == "p" or status.st_rdev == os.makedev(device.major, device.minor)
        ):
            return source
        os.close(source)
        problem = OSError(errno.ENODEV, os.strerror(errno.ENODEV), device.path)
    raise problem or OSError(errno.ENODEV, os.strerror(errno.ENODEV), device.path)


def _usual_path(device: LinuxDevice) -> str:
    """Return where udev has a device; "" if nobody knows."""
    kind = "block" if device.type == "b" else "char"
    try:
        with open(f"/sys/dev/{kind}/{device.major}:{device.minor}/uevent", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return ""
    names = [line[8:] for line in lines if line.startswith(b"DEVNAME=")]
    return f"/dev/{os.fsdecode(names[0])}" if names else ""


def _links(dev: int) -> None:
    links: tuple[tuple[bytes, bytes], ...] = LINKS
    if os.access(b"/proc/kcore", os.F_OK):  # still the host's /proc
        links = (*links, (b"/proc/kcore", b"core"))
    for goal, name in links:
        try:
            os.symlink(goal, name, dir_fd=dev)
        except FileExistsError:
            pass  # the image brings its own
    try:
        os.unlink(b"ptmx", dir_fd=dev)
    except FileNotFoundError:
        pass
    os.symlink(b"pts/ptmx", b"ptmx", dir_fd=dev)
