"""`features`: what this runtime can do. Source: runtime-spec features.md."""

from __future__ import annotations

import sys

from sampan.linux import capabilities, seccomp
from sampan.linux.namespaces import KINDS
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, Flag
from sampan.ocirun.state import shown
from sampan.runtime.roots import options
from sampan.spec.versions import OCI_VERSION

FLAGS: tuple[Flag, ...] = ()
USAGE = ""
OPERANDS = (0, 0)

HOOKS = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
]


def run(context: Context, given: Arguments) -> int:
    """Print the document."""
    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": HOOKS,
        "mountOptions": mount_options(),
        "linux": {
            "namespaces": sorted(KINDS),
            "capabilities": capabilities.all_names(),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": False,
                "rdma": True,
            },
            "seccomp": seccomp.features(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": False},
        },
        "annotations": {},
        "potentiallyUnsafeConfigAnnotations": [],
    }
    sys.stdout.write(shown(document) + "\n")
    return 0


def mount_options() -> list[str]:
    """Return every mount option with a meaning of its own."""
    known = (options.ATTRIBUTES, options.RECURSIVE_ATTRIBUTES, options.PROPAGATION)
    names = {name for table in known for name in table} | options.SUPERBLOCK
    return sorted(names | {"bind", "rbind", "idmap", "ridmap", "tmpcopyup"})
