"""Bodies of the network endpoints of Docker's Engine API, and the network parts of containers.

Source: moby api/types/network, as API 1.51 shows them. A missing address is "", not null.
"""

from __future__ import annotations

import msgspec

# --- endpoints: a container's interface on a network -----------------------------------------


class EndpointIPAMConfig(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Addresses that the user wants for an endpoint."""

    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")
    link_local_ips: list[str] | None = msgspec.field(default=None, name="LinkLocalIPs")


class EndpointSettings(msgspec.Struct, rename="pascal", kw_only=True):
    """What the user asked of an endpoint (first half), and what it got (second half)."""

    ipam_config: EndpointIPAMConfig | None = msgspec.field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = msgspec.field(default="", name="NetworkID")
    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = msgspec.field(default="", name="IPAddress")
    ip_prefix_len: int = msgspec.field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = msgspec.field(default="", name="IPv6Gateway")
    global_ipv6_address: str = msgspec.field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = msgspec.field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: list[str] | None = msgspec.field(default=None, name="DNSNames")


class NetworkingConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """The networks of `POST /containers/create`, by name or id."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class PortBinding(msgspec.Struct, rename="pascal", kw_only=True):
    """One address and port of the host."""

    host_ip: str = ""
    host_port: str = ""


class Address(msgspec.Struct, rename="pascal", kw_only=True):
    """A secondary address; always an empty list today, as in Docker."""

    addr: str = ""
    prefix_len: int = 0


class NetworkSettings(msgspec.Struct, rename="pascal", kw_only=True):
    """`NetworkSettings` of a container's inspect; the middle repeats the default bridge's."""

    bridge: str = ""
    sandbox_id: str = msgspec.field(default="", name="SandboxID")
    sandbox_key: str = ""
    ports: dict[str, list[PortBinding] | None] = {}
    hairpin_mode: bool = False
    link_local_ipv6_address: str = msgspec.field(default="", name="LinkLocalIPv6Address")
    link_local_ipv6_prefix_len: int = msgspec.field(default=0, name="LinkLocalIPv6PrefixLen")
    secondary_ip_addresses: list[Address] | None = msgspec.field(
        default=None, name="SecondaryIPAddresses"
    )
    secondary_ipv6_addresses: list[Address] | None = msgspec.field(
        default=None, name="SecondaryIPv6Addresses"
    )
    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    gateway: str = ""
    global_ipv6_address: str = msgspec.field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = msgspec.field(default=0, name="GlobalIPv6PrefixLen")
    ip_address: str = msgspec.field(default="", name="IPAddress")
    ip_prefix_len: int = msgspec.field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = msgspec.field(default="", name="IPv6Gateway")
    mac_address: str = ""
    networks: dict[str, EndpointSettings] = {}


# --- networks ----------------------------------------------------------------------------------


class IPAMConfig(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """One address pool of a network."""

    subnet: str = ""
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = ""
    aux_address: dict[str, str] | None = msgspec.field(default=None, name="AuxiliaryAddresses")


class IPAM(msgspec.Struct, rename="pascal", kw_only=True):
    """Who gives out the addresses of a network, and from where."""

    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[IPAMConfig] | None = None


class ConfigReference(msgspec.Struct, rename="pascal", kw_only=True):
    """The network that holds the configuration of another; "" for none."""

    network: str = ""


class EndpointResource(msgspec.Struct, rename="pascal", kw_only=True):
    """A container in `docker network inspect`; addresses with their prefix length."""

    name: str
    endpoint_id: str = msgspec.field(name="EndpointID")
    mac_address: str
    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")


class Network(msgspec.Struct, rename="pascal", kw_only=True):
    """One item of GET /networks, and with `containers` the body of GET /networks/{id}."""

    name: str
    id: str
    created: str
    scope: str = "local"
    driver: str = "bridge"
    enable_ipv4: bool = msgspec.field(default=True, name="EnableIPv4")
    enable_ipv6: bool = msgspec.field(default=False, name="EnableIPv6")
    ipam: IPAM = msgspec.field(name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: ConfigReference = msgspec.field(default_factory=ConfigReference)
    config_only: bool = False
    containers: dict[str, EndpointResource] = {}
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class NetworkCreateRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /networks/create."""

    name: str = ""
    check_duplicate: bool = False  # ignored since API 1.44: names are unique
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    ipam: IPAM | None = msgspec.field(default=None, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkCreateResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of POST /networks/create."""

    id: str
    warning: str = ""


class NetworkConnectRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnectRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False


class NetworksPruneReport(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of POST /networks/prune."""

    networks_deleted: list[str] | None = None
