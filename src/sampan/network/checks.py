"""What the plumber accepts: every field that comes from the daemon is parsed before it is used.

Names go into rules and file names, addresses into netlink messages; all raise InvalidArgument.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)
from typing import Final

from sampan.errors import InvalidArgument
from sampan.network.plumber import (
    BridgeSpec,
    EndpointSpec,
    IntoBridge,
    NetworkSpec,
    OntoParent,
    Peer,
    PlugEnd,
    PlugSpec,
    PortMapping,
    ResolverSpec,
    ToPeer,
)
from sampan.spec.addresses import is_address

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
INTERFACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ, and safe in rules
_LONGEST_NAME: Final = 253  # RFC 1035
_SYSCTL: Final = re.compile(r"(ipv4|ipv6|mpls)/(conf|neigh|input)/[a-z0-9_]{1,64}")
_SYSCTL_VALUE: Final = re.compile(r"[0-9a-fA-F:.\- ]{1,64}")
_MAC: Final = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


def _check(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise InvalidArgument(f"invalid {what}: {value!r}")


def check_network(network: NetworkSpec) -> None:
    """Check a network."""
    if isinstance(network, BridgeSpec):
        _check_bridge(network)
        return
    _check(_ID, network.network_id, "network id")
    if network.parent:
        _check(INTERFACE, network.parent, "parent interface")
    elif not network.internal:
        raise InvalidArgument("a network without a parent interface is internal")
    elif network.mode == "passthru":
        raise InvalidArgument("mode passthru needs a parent interface")
    if network.parent == "lo":
        kind = network.__struct_config__.tag
        raise InvalidArgument(f"loopback interface is not a valid {kind} parent link")
    if network.domain:
        check_names([network.domain])


def _check_bridge(bridge: BridgeSpec) -> None:
    _check(_ID, bridge.network_id, "network id")
    _check(INTERFACE, bridge.name, "interface name")
    try:
        subnet, gateway = IPv4Network(bridge.subnet), IPv4Address(bridge.gateway)
    except ValueError as error:
        raise InvalidArgument(f"invalid subnet {bridge.subnet}: {error}") from error
    if gateway not in subnet:
        raise InvalidArgument(f"no matching subnet for gateway {gateway}")
    if bridge.subnet6 or bridge.gateway6:
        _check_ipv6(bridge)
    if bridge.mtu and not 68 <= bridge.mtu <= 65535:
        raise InvalidArgument(f"invalid MTU: {bridge.mtu}")
    if bridge.domain:
        check_names([bridge.domain])


def _check_ipv6(bridge: BridgeSpec) -> None:
    try:
        subnet, gateway = IPv6Network(bridge.subnet6), IPv6Address(bridge.gateway6)
    except ValueError as error:
        raise InvalidArgument(f"invalid subnet {bridge.subnet6}: {error}") from error
    if gateway not in subnet or gateway.scope_id:
        raise InvalidArgument(f"no matching subnet for gateway {gateway}")


def check_endpoint(endpoint: EndpointSpec) -> None:
    """Check an endpoint."""
    _check(_ID, endpoint.endpoint_id, "endpoint id")
    _check(INTERFACE, endpoint.interface, "interface name")
    if endpoint.mac_address:
        _check(_MAC, endpoint.mac_address, "MAC address")
    check_names(endpoint.names)
    for name, value in endpoint.sysctls.items():
        _check(_SYSCTL, name, "sysctl of an interface")
        _check(_SYSCTL_VALUE, value, f"value of the sysctl {name}")
    if endpoint.container_id:
        _check(_ID, endpoint.container_id, "container id")
    try:
        for address in (endpoint.address, *endpoint.more_addresses):
            IPv4Interface(address)
        if endpoint.gateway:
            IPv4Address(endpoint.gateway)
        if endpoint.address6:
            IPv6Interface(endpoint.address6)
        if endpoint.gateway6:
            IPv6Address(endpoint.gateway6)
    except ValueError as error:
        raise InvalidArgument(f"invalid address: {error}") from error


def check_plug(plug: PlugSpec) -> None:
    """Check what a user wants plugged."""
    _check(_ID, plug.plug_id, "plug id")
    _check(_ID, plug.container_id, "container id")
    _check_end(plug.end)
    match plug.into:
        case IntoBridge(name=name, port=port):
            _check(INTERFACE, name, "bridge name")
            if port:
                _check(INTERFACE, port, "interface name")
            if port in (name, "lo"):
                raise InvalidArgument(f"{port} cannot be a port of the bridge {name}")
        case OntoParent(parent=parent):
            _check(INTERFACE, parent, "parent interface")
        case ToPeer(container_id=container_id, end=end):
            _check(_ID, container_id, "container id")
            _check_end(end)


def _check_end(end: PlugEnd) -> None:
    if end.interface:
        _check(INTERFACE, end.interface, "interface name")
    if end.mac_address:
        _check(_MAC, end.mac_address, "MAC address")
    try:
        for address in end.addresses:
            ip_interface(address)
        for gateway in end.gateways:
            ip_address(gateway)
    except ValueError as error:
        raise InvalidArgument(f"invalid address: {error}") from error


def check_names(names: list[str]) -> None:
    """Check the names of an endpoint: any text that fits into a question."""
    for name in names:
        if not 0 < len(name) <= _LONGEST_NAME:
            raise InvalidArgument(f"invalid name: {name!r}")


def check_peer(peer: Peer) -> None:
    """Check a port that is to be reached."""
    try:
        IPv4Address(peer.address)
    except ValueError as error:
        raise InvalidArgument(f"invalid IP address: {peer.address}") from error
    if not 1 <= peer.port <= 65535:
        raise InvalidArgument(f"invalid port: {peer.port}")


def check_resolver(resolver: ResolverSpec) -> None:
    """Check how a container finds names."""
    _check(_ID, resolver.container_id, "container id")
    check_names([*resolver.aliases, *resolver.aliases.values()])
    for server in resolver.servers:
        if not is_address(server.partition("%")[0]):
            raise InvalidArgument(f"invalid DNS server: {server}")


def check_port(port: PortMapping) -> None:
    """Check a port to be published."""
    try:
        address = ip_address(port.host_address)
    except ValueError as error:
        raise InvalidArgument(f"invalid IP address: {port.host_address}") from error
    if str(address) != port.host_address or "%" in port.host_address:
        raise InvalidArgument(f"invalid IP address: {port.host_address}")
    if not (0 <= port.host_port <= 65535 and 1 <= port.container_port <= 65535):
        raise InvalidArgument(f"invalid port: {port.host_port}:{port.container_port}")
    if port.routed and port.host_port:
        raise InvalidArgument(f"a routed port has no port of the host: {port.host_port}")
    if port.host_port_end and not port.host_port <= port.host_port_end <= 65535:
        raise InvalidArgument(f"invalid port range: {port.host_port}-{port.host_port_end}")
