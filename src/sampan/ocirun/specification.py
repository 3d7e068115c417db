"""`spec`: write a config.json to begin with."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from sampan.errors import Conflict
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.runtime import defaults
from sampan.spec.runtime import Linux, LinuxIDMapping, LinuxNamespace, Mount, Spec

FLAGS = (
    flag("--bundle -b", "the directory to write to", "DIR"),
    flag("--rootless", "for a user without privileges"),
)
USAGE = ""
OPERANDS = (0, 0)


def run(context: Context, given: Arguments) -> int:
    """Write config.json; it is an error if there is one."""
    spec = defaults.spec()
    if given.has("rootless"):
        make_rootless(spec, os.geteuid(), os.getegid())
    path = os.path.join(given.get("bundle", "."), "config.json")
    content = msgspec.json.format(msgspec.json.encode(document(spec)), indent=4)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise Conflict("File config.json exists. Remove it first") from None
    with open(fd, "wb") as file:
        file.write(content + b"\n")
    return 0


def document(spec: Spec) -> dict[str, Any]:
    """Return a specification with what is required in it, even where it is the default."""
    built: dict[str, Any] = msgspec.to_builtins(spec)
    process: dict[str, Any] = {"user": {"uid": 0, "gid": 0}, "cwd": "/"} | built.get("process", {})
    root = {"path": "rootfs"} | built.get("root", {})
    resources = built.get("linux", {}).get("resources", {})
    for place, rule in enumerate(resources.get("devices", [])):  # runc refuses one without access
        resources["devices"][place] = {"allow": False, "access": "rwm"} | rule
    return {"ociVersion": spec.oci_version} | built | {"process": process, "root": root}


def make_rootless(spec: Spec, uid: int, gid: int) -> None:
    """Change a specification so that a user can run it: ids mapped, host network, bound /sys."""
    linux = spec.linux = spec.linux or Linux()
    kept = [namespace for namespace in linux.namespaces if namespace.type != "network"]
    linux.namespaces = [*kept, LinuxNamespace(type="user")]
    linux.uid_mappings = [LinuxIDMapping(container_id=0, host_id=uid)]
    linux.gid_mappings = [LinuxIDMapping(container_id=0, host_id=gid)]
    linux.resources = None
    options = ["rbind", "nosuid", "noexec", "nodev", "ro"]
    for place, mount in enumerate(spec.mounts):
        mount.options = [each for each in mount.options if not each.startswith(("gid=", "uid="))]
        if mount.destination == "/sys":
            bound = Mount(destination="/sys", type="none", source="/sys", options=options)
            spec.mounts[place] = bound
