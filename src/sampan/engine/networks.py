"""Networks: the three that are always there, bridges of users, and what containers get of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sampan.rpc import Fd
from sampan.spec.docker.networks import (
    EndpointSettings,
    Network,
    NetworkCreateRequest,
    NetworkCreateResponse,
    NetworkSettings,
    NetworksPruneReport,
    PortBinding,
)

Filters = Mapping[str, Sequence[str]]
Emit = Callable[[str, str, Mapping[str, str]], None]  # action, network id, attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """The daemon's options that concern networks (dockerd's names)."""

    bridge: str = "sampan0"  # --bridge; "none" switches the default bridge off
    bip: str = ""
    mtu: int = 0
    icc: bool = True
    ip_masq: bool = True
    default_ip: str = "0.0.0.0"  # --ip
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    default_address_pools: Sequence[tuple[str, int]] = ()  # (base, size); () is Docker's list
    host_gateway_ip: str = ""
    resolv_conf: str = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a container asks of its network: parts of its Config, HostConfig and NetworkingConfig."""

    container_id: str
    name: str  # without the leading slash
    mode: str = "default"  # HostConfig.NetworkMode
    disabled: bool = False  # Config.NetworkDisabled
    hostname: str = ""
    domainname: str = ""
    mac_address: str = ""  # Config.MacAddress, of API versions before 1.44
    endpoints: Mapping[str, EndpointSettings | None] = field(default_factory=dict)
    exposed_ports: Collection[str] = ()  # "80/tcp"
    port_bindings: Mapping[str, Sequence[PortBinding] | None] = field(default_factory=dict)
    publish_all: bool = False
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    extra_hosts: Sequence[str] = ()  # "name:address"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a container got: its namespace, what inspect shows, and the files under its /etc."""

    namespace: Fd | None  # None: the host's (mode host), or pulled in by the spawner (container:X)
    settings: NetworkSettings
    files: dict[str, bytes]  # hosts, hostname, resolv.conf; empty for container:X


class Networks:
    """The networks of this engine.

    `emit` takes events: action (create, connect, disconnect, destroy), network id, attributes.
    """

    async def start(self, running: Collection[str]) -> None:
        """Make or repair what must be there; `running` are the ids of containers that run."""

    async def check(self, wish: Wish) -> list[str]:
        """Check what `create` can check, and return warnings.

        Raises InvalidArgument or NotFound ("network foo not found") in Docker's words.
        """

    def settings_at_rest(self, wish: Wish) -> NetworkSettings:
        """Return what inspect shows for a container that does not run."""

    async def connect(self, wish: Wish) -> Connection:
        """Give a container that starts its namespace, addresses and published ports, or raise.

        The caller owns `namespace`. Conflict and Internal carry Docker's sentence ("driver failed
        programming external connectivity on endpoint …").
        """

    async def disconnect(self, container_id: str) -> None:
        """Take back all that `connect` gave; unknown ids are no error."""

    def settings(self, container_id: str) -> NetworkSettings | None:
        """Return what `connect` gave to a running container; None if it has nothing."""

    async def list(self, filters: Filters) -> list[Network]:
        """Return the networks that `docker network ls` shows."""

    async def inspect(self, reference: str, *, scope: str = "") -> Network:
        """Return one network with its running containers; by name, id or prefix of an id."""

    async def create(self, request: NetworkCreateRequest) -> NetworkCreateResponse:
        """Make a user-defined bridge network."""

    async def remove(self, reference: str) -> str:
        """Remove a network that no container uses, and return its id."""

    async def prune(self, filters: Filters) -> NetworksPruneReport:
        """Remove all user-defined networks that no container uses."""
