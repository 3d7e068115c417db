"""Kernel parameters of a container: only those of its own namespaces."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping

from sampan.errors import InvalidArgument

#: sysctl → the namespace that must be the container's own. Source: runc validate/validator.go.
IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in (
        *("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni"),
        "shm_rmid_forced",
    )
)
UTS_SYSCTLS = frozenset({"kernel.domainname"})


def check_sysctls(wanted: Mapping[str, str], own: Container[str]) -> list[tuple[bytes, bytes]]:
    """Return path and value of each sysctl; `own` names the namespaces that the container has.

    Raises InvalidArgument for one that belongs to another namespace, or to none.
    """
    checked = []
    for key, value in wanted.items():
        name = key.replace("/", ".") if "/" in key and "." not in key.partition("/")[0] else key
        path = key if name != key else key.replace(".", "/")
        if ".." in path.split("/") or not path or "\0" in path + value:
            raise InvalidArgument(f"invalid sysctl {key!r}")
        if name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
            kind = "ipc"
        elif name.startswith("net."):
            kind = "network"
        elif name in UTS_SYSCTLS:
            kind = "uts"
        elif name == "kernel.hostname":
            raise InvalidArgument(
                'sysctl "kernel.hostname" conflicts with OCI field "hostname": use that'
            )
        elif name.startswith("user."):
            kind = "user"
        else:
            raise InvalidArgument(f'sysctl "{key}" is not in a separate kernel namespace')
        if kind not in own:
            raise InvalidArgument(f'sysctl "{key}" not allowed in host {kind} namespace')
        checked.append((os.fsencode(path), os.fsencode(value)))
    return checked
