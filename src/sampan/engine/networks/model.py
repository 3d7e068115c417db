"""What containers ask of networks and what they get, as data; and the daemon's options."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sampan.rpc import Fd
from sampan.spec.docker.networks import EndpointSettings, NetworkSettings, PortBinding

Emit = Callable[[str, str, Mapping[str, str]], None]  # action, network id, attributes

BRIDGE, HOST, NONE = "bridge", "host", "none"
PREDEFINED = (BRIDGE, HOST, NONE)
CONTAINER = "container:"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """The daemon's options that concern networks (dockerd's names)."""

    bridge: str = "sampan0"  # --bridge; "none" switches the default bridge off
    bip: str = ""
    fixed_cidr: str = ""
    default_gateway: str = ""
    ip_forward: bool = True
    ipv6: bool = False  # of the default bridge
    bip6: str = ""
    fixed_cidr6: str = ""
    default_gateway6: str = ""
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
    """What a container asks of its network: of its Config, HostConfig and NetworkingConfig."""

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

    @property
    def network(self) -> str:
        """Return the name or id of the network that the mode means; "" for container:X."""
        if self.disabled:
            return NONE
        if self.mode.startswith(CONTAINER):
            return ""
        return BRIDGE if self.mode in ("", "default") else self.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a container got: its namespace, what inspect shows, and the files under its /etc."""

    namespace: Fd | None  # None: the host's (mode host), or pulled in by the spawner (container:X)
    settings: NetworkSettings
    files: dict[str, bytes]  # hosts, hostname, resolv.conf; empty for container:X
