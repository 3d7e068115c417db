"""Bundles: config.json read, checked and completed as runc does."""

from __future__ import annotations

import os
import re
import stat

import msgspec

from sampan.errors import InvalidArgument
from sampan.runtime import defaults
from sampan.spec.cgroup_names import slice_path
from sampan.spec.runtime import Linux, LinuxResources, Process, Spec, parse

LIMIT = 32 << 20  # bytes of a config.json
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.+-]+)?(\+[0-9A-Za-z.-]+)?", re.ASCII)


def read(path: str) -> bytes:
    """Return the content of a document; raises InvalidArgument if it is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise InvalidArgument(f"JSON specification file {path} not found") from None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{path} is no regular file")
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise InvalidArgument(f"{path} exceeds {LIMIT} bytes")
    return content


def load(bundle: str, config: str = "config.json") -> Spec:
    """Read and check the specification of a bundle; raises InvalidArgument."""
    try:
        spec = parse(read(os.path.join(bundle, config)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{config} is no valid specification: {error}") from None
    check(spec)
    return complete(spec)


def load_process(path: str) -> Process:
    """Read a process.json for exec; raises InvalidArgument."""
    try:
        process = msgspec.json.decode(read(path), type=Process)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} is no valid process: {error}") from None
    check_process(process)
    return process


def check(spec: Spec) -> None:
    """Refuse a specification that no runtime can carry out; raises InvalidArgument."""
    found = _VERSION.fullmatch(spec.oci_version)
    if found is None:
        raise InvalidArgument(f"ociVersion {spec.oci_version!r} is no valid version")
    if found[1] != "1":
        raise InvalidArgument(f"ociVersion {spec.oci_version!r} is not supported")
    if spec.root is None or not spec.root.path:
        raise InvalidArgument("root must not be empty")
    if spec.process is None:
        raise InvalidArgument("process property must not be empty")
    check_process(spec.process)
    for mount in spec.mounts:
        if not mount.destination:
            raise InvalidArgument("mount destination must not be empty")


def check_process(process: Process) -> None:
    """Refuse a process that cannot be executed; raises InvalidArgument."""
    if not process.cwd:
        raise InvalidArgument("Cwd property must not be empty")
    if not process.cwd.startswith("/"):
        raise InvalidArgument("Cwd must be an absolute path")
    if not process.args:
        raise InvalidArgument("args must not be empty")


def complete(spec: Spec) -> Spec:
    """Add what runc adds to every container: its own devices at the end of the device list."""
    linux = spec.linux = spec.linux or Linux()
    resources = linux.resources = linux.resources or LinuxResources()
    resources.devices = [*resources.devices, *defaults.runtime_device_rules()]
    return spec


def rootfs(bundle: str, spec: Spec) -> str:
    """Return the root directory of a bundle; raises InvalidArgument if it is none."""
    path = os.path.join(bundle, spec.root.path if spec.root else "rootfs")
    if not os.path.isdir(path):
        raise InvalidArgument(f"invalid rootfs: {path} is no directory")
    return os.path.realpath(path)


def cgroup_path(spec: Spec, id: str, *, systemd: bool) -> str:
    """Return the path of the container's cgroup below each hierarchy.

    In systemd's form slice:prefix:name it is the path that systemd would use. Raises
    InvalidArgument.
    """
    wanted = spec.linux.cgroups_path if spec.linux else ""
    if systemd or wanted.count(":") == 2:
        return _systemd_path(wanted or f"system.slice:sampan:{id}")
    return "/" + (wanted or id).strip("/")


def _systemd_path(wanted: str) -> str:
    parts = wanted.split(":")
    if len(parts) != 3:
        text = f'expected cgroupsPath to be of format "slice:prefix:name", got "{wanted}"'
        raise InvalidArgument(text)
    slice_, prefix, name = parts
    slice_ = slice_ or "system.slice"
    if "/" in wanted:
        raise InvalidArgument(f'invalid slice name: "{slice_}"')
    path = slice_path(slice_)
    if name.endswith(".slice"):
        return f"{path}/{name}"
    return f"{path}/{prefix}-{name}.scope" if prefix else f"{path}/{name}.scope"
