"""Which user namespace a container is in: the host's, one of its own, or that of another.

Source: moby daemon/daemon_unix.go verifyPlatformContainerSettings, daemon/oci_linux.go
WithNamespaces. Decision 025.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container, Record
from sampan.engine.containers.lookup import Table
from sampan.engine.oci.id_ranges import IdRanges, pool_of
from sampan.errors import InvalidArgument
from sampan.linux.subids import Range
from sampan.rpc import Fd
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.config import HostConfig
from sampan.spec.user_modes import IdMaps, UserMode, maps_of_range, parse_user_mode

_SHARED = "container:"


@dataclass(frozen=True, slots=True)
class UserOptions:
    """`--userns-remap` of the daemon, and the ids that `auto` hands out."""

    default: IdMaps | Literal["auto"] | None = None
    pool: Sequence[Range] = field(default_factory=lambda: pool_of(("sampan",)))


@dataclass(slots=True)
class Spaces:
    """The namespaces of a container that is about to start."""

    maps: IdMaps | None = None  # None: it stays in the host's user namespace
    user: Fd | None = None
    network: Fd | None = None  # a fresh one that belongs to `user`
    joined: int = 0  # pid of the process whose user namespace it is


class UserNamespaces:
    """Decides on user namespaces, and has them made."""

    def __init__(
        self, table: Table, ranges: IdRanges, spawner: Spawner, options: UserOptions
    ) -> None:
        self._table, self._ranges, self._spawner = table, ranges, spawner
        self._default = options.default

    # --- at creation ---------------------------------------------------------------------------

    def check(self, host: HostConfig) -> None:
        """Refuse what a user namespace rules out; raises InvalidArgument in Docker's words."""
        mode = parse_user_mode(host.userns_mode)
        if mode.kind == "auto" and _targets(host):
            raise InvalidArgument(
                f"conflicting options: --userns={host.userns_mode} and a namespace of another"
                " container, whose user namespace would have to be joined"
            )
        if mode.kind or self._default is None:
            return
        if host.privileged:
            raise InvalidArgument(
                "privileged mode is incompatible with user namespaces.  You must run the container"
                " in the host namespace when running privileged mode"
            )
        for kind, chosen in (("network", host.network_mode), ("PID", host.pid_mode)):
            if chosen == "host":
                shared = "host's network" if kind == "network" else "host PID"
                raise InvalidArgument(
                    f"cannot share the {shared} namespace when user namespaces are enabled"
                )

    def reserve(self, record: Record, at_end: AsyncExitStack) -> None:
        """Check what a new container asks for, and give it a range of ids if it is to have one.

        The range is held until `at_end`, when the container is saved or was not made. Raises
        InvalidArgument, and Conflict if there is no range left.
        """
        self.check(record.host_config)
        self._reserve(record)
        at_end.callback(self._ranges.settle, record.id)

    def _reserve(self, record: Record) -> None:
        mode = self._mode(record.host_config)
        if mode.kind == "auto" and not _targets(record.host_config):
            record.id_range = (self._ranges.reserve(record.id, mode.size), mode.size)

    def _mode(self, host: HostConfig) -> UserMode:
        mode = parse_user_mode(host.userns_mode)
        return UserMode("auto") if not mode.kind and self._default == "auto" else mode

    # --- at a start ----------------------------------------------------------------------------

    async def make(self, container: Container, undo: AsyncExitStack) -> Spaces:
        """Make what a container that starts needs; `undo` closes the descriptors.

        Notes in the record what it runs in; the caller saves it.
        """
        record, host = container.record, container.host_config
        other = self._shared_with(host)
        if other is not None:
            record.id_maps, record.id_range = other.record.id_maps, other.record.id_range
        else:
            is_late = record.id_range is None
            record.id_maps = self._maps(record)
            if is_late and record.id_range is not None:
                await blocking(self._ranges.keep, record.id, *record.id_range)
        if record.id_maps is None:
            return Spaces()
        spaces = Spaces(record.id_maps, joined=other.record.pid if other else 0)
        maps = spaces.maps
        assert maps is not None
        own_network = host.network_mode != "host" and not host.network_mode.startswith(_SHARED)
        made = await blocking(
            self._spawner.namespaces,
            maps.uids,
            maps.gids,
            network=own_network or bool(container.config.network_disabled),
            of=other.id if other else "",
        )
        undo.callback(made.user.close)
        spaces.user = made.user
        if made.network:
            undo.callback(made.network.close)
            spaces.network = made.network
        return spaces

    def _maps(self, record: Record) -> IdMaps | None:
        mode = self._mode(record.host_config)
        if mode.kind == "auto":
            if record.id_range is None:  # made before the daemon's default was auto
                self._reserve(record)
            assert record.id_range is not None
            return maps_of_range(record.id_range[0], mode)
        if mode.kind == "host" or self._default == "auto":
            return None
        return self._default

    def _shared_with(self, host: HostConfig) -> Container | None:
        """Return the container whose namespaces are joined, and so its user namespace as well."""
        if parse_user_mode(host.userns_mode).kind == "host":
            return None
        found = [self._table.find(target) for target in _targets(host)]
        maps = [other.record.id_maps for other in found]
        if any(each != maps[0] for each in maps):
            raise InvalidArgument(
                "cannot join namespaces of containers that are in different user namespaces"
            )
        return found[0] if found else None


def _targets(host: HostConfig) -> list[str]:
    """Return the containers whose network, processes or IPC are shared."""
    modes = (host.network_mode, host.pid_mode, host.ipc_mode)
    return [mode.removeprefix(_SHARED) for mode in modes if mode.startswith(_SHARED)]
