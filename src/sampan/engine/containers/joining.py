"""Namespaces that a container takes from another one: `--pid`, `--ipc`, `--network container:X`.

Source: moby daemon/container_operations_unix.go, getPIDContainer, getIPCContainer.
"""

from __future__ import annotations

from collections.abc import Iterator

from sampan.engine.containers.container import Container
from sampan.engine.containers.lookup import Table
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.spec.docker.config import HostConfig

_PREFIX = "container:"


def joined(table: Table, container: Container) -> dict[str, int]:
    """Return the processes whose namespaces a container shares, by kind of namespace.

    Raises Conflict if one of them does not run, InvalidArgument if it does not share.
    """
    found = {}
    for kind, mode in _modes(container.host_config):
        other = table.find(mode.removeprefix(_PREFIX))
        if not other.running:
            raise Conflict(f"cannot join {kind} namespace of a non running container: {other.id}")
        if kind == "ipc":
            check_shareable(other)
        found[kind] = other.record.pid
    return found


def check_shareable(other: Container) -> None:
    """Refuse the shared memory of a container that keeps it for itself."""
    if other.host_config.ipc_mode in ("", "private", "none"):
        raise InvalidArgument(
            f"container {other.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor "
            "container)"
        )


def waits(table: Table, container: Container) -> bool:
    """Tell whether a container shares with one that is about to start, and does not wait for it.

    After a reboot that is also one which ran before, and was not looked at yet.
    """
    return any(
        not other.running
        and (other.restarting or other.record.started)
        and container not in list(_targets(table, other))
        for other in _targets(table, container)
    )


def _targets(table: Table, container: Container) -> Iterator[Container]:
    for _, mode in _modes(container.host_config):
        try:
            yield table.find(mode.removeprefix(_PREFIX))
        except NotFound:
            continue


def _modes(host: HostConfig) -> Iterator[tuple[str, str]]:
    modes = (("network", host.network_mode), ("pid", host.pid_mode), ("ipc", host.ipc_mode))
    return ((kind, mode) for kind, mode in modes if mode.startswith(_PREFIX))
