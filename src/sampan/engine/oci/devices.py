"""Devices of the host inside containers: nodes to make, and rules that allow them.

Source: moby daemon/oci_linux.go WithDevices, oci/devices_linux.go, oci/oci.go.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

from sampan.errors import InvalidArgument
from sampan.spec.docker.config import DeviceMapping
from sampan.spec.runtime import LinuxDevice, LinuxDeviceCgroup

FILES_AT_MOST = 4096  # in a folder of devices: it is searched while clients wait
OWN_FILES_AT_MOST = 1 << 16  # in /dev, of which the administrator disposes


def devices(
    mappings: Sequence[DeviceMapping],
) -> tuple[list[LinuxDevice], list[LinuxDeviceCgroup]]:
    """Return the nodes to make for `--device`, and the rules that allow them.

    A folder stands for all devices in it. Raises InvalidArgument in Docker's words.
    """
    nodes: list[LinuxDevice] = []
    rules: list[LinuxDeviceCgroup] = []
    for mapping in mappings:
        inside = mapping.path_in_container or mapping.path_on_host
        access = mapping.cgroup_permissions or "rwm"
        if set(access) - set("rwm"):
            raise InvalidArgument(f"invalid device mode: {access}")
        found = _devices_at(mapping.path_on_host, inside)
        nodes += found
        rules += [rule(node, access) for node in found]
    return nodes, rules


def rule(node: LinuxDevice, access: str) -> LinuxDeviceCgroup:
    """Return the rule that allows a node."""
    return LinuxDeviceCgroup(
        allow=True, type=node.type, major=node.major, minor=node.minor, access=access
    )


def _devices_at(path: str, inside: str) -> list[LinuxDevice]:
    failed = f'error gathering device information while adding custom device "{path}": '
    try:
        real = os.path.realpath(path)
        if node := node_at(real, inside):
            return [node]
        if os.path.isdir(real):
            found = list_devices(real, inside)
            if found:
                return found
    except (OSError, ValueError) as error:
        reason = os.strerror(getattr(error, "errno", 0) or 22).lower()
        raise InvalidArgument(f"{failed}{reason}") from None
    raise InvalidArgument(failed + "not a device node")


def list_devices(
    folder: str,
    inside: str,
    skip: Callable[[str], bool] | None = None,
    at_most: int = FILES_AT_MOST,
) -> list[LinuxDevice]:
    """Return every device node below a folder of the host, by its path `inside`.

    Raises InvalidArgument if there are more files than `at_most`.
    """
    found: list[LinuxDevice] = []
    seen = 0
    for where, folders, files in os.walk(folder):
        if skip:
            folders[:] = [name for name in folders if not skip(name)]
        seen += len(files) + len(folders)
        if seen > at_most:
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{folder}": '
                f"it has more than {at_most} files"
            )
        for name in sorted(files):
            path = os.path.join(where, name)
            try:
                node = node_at(path, inside + path[len(folder) :])
            except OSError:
                continue  # it went meanwhile
            if node:
                found.append(node)
    return found


def host_devices() -> list[LinuxDevice]:
    """Return the devices of a privileged container: all of the host's but for terminals."""
    skipped = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
    found = list_devices("/dev", "/dev", skipped.__contains__, OWN_FILES_AT_MOST)
    return [node for node in found if node.path != "/dev/console"]


def node_at(path: str, inside: str) -> LinuxDevice | None:
    """Return a node like that at `path`, None if there is something else; raises OSError."""
    status = os.lstat(path)
    if stat.S_ISBLK(status.st_mode):
        kind = "b"
    elif stat.S_ISCHR(status.st_mode):
        kind = "c"
    else:
        return None
    return LinuxDevice(
        path=inside,
        type=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        file_mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )


def parse_rules(rules: Sequence[str]) -> list[LinuxDeviceCgroup]:
    """Return the rules of `--device-cgroup-rule`; raises InvalidArgument in Docker's words."""
    found = []
    for rule in rules:
        parts = rule.split(" ")
        numbers = parts[1].split(":") if len(parts) == 3 else []
        good = (
            len(numbers) == 2
            and parts[0] in ("a", "b", "c")
            and all(n == "*" or (n.isascii() and n.isdecimal() and len(n) < 10) for n in numbers)
            and 1 <= len(parts[2]) <= 3
            and not set(parts[2]) - set("rwm")
        )
        if not good:
            raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'")
        major, minor = (None if n == "*" else int(n) for n in numbers)
        found.append(
            LinuxDeviceCgroup(allow=True, type=parts[0], major=major, minor=minor, access=parts[2])
        )
    return found
