"""Endpoints as the API shows and takes them: what is wanted, what was got, by which names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.model import PREDEFINED, Wish
from sampan.errors import InvalidArgument
from sampan.network.checks import INTERFACE
from sampan.network.plumber import EndpointSpec
from sampan.spec.docker.networks import EndpointSettings
from sampan.spec.names import short_id

_SYSCTLS: Final = "com.docker.network.endpoint.sysctls"
# The CLI writes the names of options in lower case.
_SYSCTL: Final = re.compile(
    r"net\.(ipv4|ipv6|mpls)\.(conf|neigh|input)\.(?:IFNAME|ifname)\.([a-z0-9_]+)=([0-9a-f:. -]+)"
)
_MAC: Final = re.compile(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")


def wanted_of(wish: Wish, row: NetworkRow) -> EndpointSettings | None:
    """Return what a container wants of a network, by whatever it calls it."""
    keys = [row.network.name, row.network.id, short_id(row.network.id)]
    if row.network.name == "bridge":
        keys.append("default")
    return next((wish.endpoints[key] for key in keys if wish.endpoints.get(key)), None)


def priority(row: NetworkRow, wanted: EndpointSettings | None) -> tuple[bool, int, str]:
    """Sort first what becomes the default route. Source: moby libnetwork/endpoint.go, Less."""
    return row.internal, -(wanted.gw_priority if wanted else 0), row.network.name


def gateway_of(row: NetworkRow) -> str:
    """Return where the default route of a network's containers leads; "" for nowhere.

    0.0.0.0 is out of the interface itself.
    """
    if row.internal:
        return ""
    return "0.0.0.0" if row.is_l3 else row.default_gateway or str(row.gateway or "")


def gateway6_of(row: NetworkRow) -> str:
    """Return where the IPv6 default route leads; "" for nowhere."""
    if row.internal or not row.subnet6:
        return ""
    return "::" if row.is_l3 else row.default_gateway6 or str(row.gateway6 or "")


def address_of(spec: EndpointSpec) -> IPv4Address:
    """Return an endpoint's address."""
    return IPv4Address(spec.address.partition("/")[0])


def bare(row: NetworkRow, endpoint_id: str) -> EndpointSettings:
    """Return an endpoint for which nothing was made: on host or none."""
    return EndpointSettings(network_id=row.network.id, endpoint_id=endpoint_id)


def at_rest(row: NetworkRow, wish: Wish) -> EndpointSettings:
    """Return what inspect shows of an endpoint of a container that does not run."""
    wanted = wanted_of(wish, row) or EndpointSettings()
    return EndpointSettings(
        ipam_config=wanted.ipam_config,
        links=wanted.links,
        aliases=wanted.aliases,
        mac_address=wanted.mac_address,
        driver_opts=wanted.driver_opts,
        gw_priority=wanted.gw_priority,
        network_id=row.network.id,
        dns_names=dns_names(row, wish, wanted),
    )


def settings_of(
    row: NetworkRow, spec: EndpointSpec, wish: Wish, wanted: EndpointSettings | None = None
) -> EndpointSettings:
    """Return what inspect shows of an endpoint that was made."""
    wanted = wanted or wanted_of(wish, row) or EndpointSettings()
    return EndpointSettings(
        ipam_config=wanted.ipam_config,
        links=wanted.links,
        aliases=wanted.aliases,
        mac_address=spec.mac_address,
        driver_opts=wanted.driver_opts,
        gw_priority=wanted.gw_priority,
        network_id=row.network.id,
        endpoint_id=spec.endpoint_id,
        gateway="" if row.is_l3 else gateway_of(row),
        ip_address=str(address_of(spec)),
        ip_prefix_len=row.subnet.prefixlen,
        ipv6_gateway=gateway6_of(row) if spec.address6 and not row.is_l3 else "",
        global_ipv6_address=spec.address6.partition("/")[0],
        global_ipv6_prefix_len=int(spec.address6.partition("/")[2] or 0),
        dns_names=dns_names(row, wish, wanted),
    )


def dns_names(row: NetworkRow, wish: Wish, wanted: EndpointSettings) -> list[str] | None:
    """Return the names by which others on a user-defined network find a container."""
    if row.network.name in PREDEFINED:
        return None
    names = [wish.name, *(wanted.aliases or []), short_id(wish.container_id), wish.hostname]
    return list(dict.fromkeys(name for name in names if name))


def check_settings(network: str, wanted: EndpointSettings | None) -> None:
    """Check what a client wants of an endpoint on a network, given by name.

    Raises InvalidArgument. Source: moby daemon/container_operations.go, validateEndpointSettings.
    """
    if wanted is None:
        return
    ipam = wanted.ipam_config
    problems = []
    if network in (*PREDEFINED, "default"):
        if ipam and (ipam.ipv4_address or ipam.ipv6_address):
            problems.append("user-specified IP address is supported on user-defined networks only")
        if wanted.aliases:
            problems.append("network-scoped aliases are only supported for user-defined networks")
    addresses = [ipam.ipv4_address, *(ipam.link_local_ips or ())] if ipam else []
    for address in filter(None, addresses):
        if not _is_ipv4(address):
            what = "IPv4 address" if address is addresses[0] else "link-local IP address"
            problems.append(f"invalid {what}: {address}")
    if ipam and ipam.ipv6_address and not _is_ipv6(ipam.ipv6_address):
        problems.append(f"invalid IPv6 address: {ipam.ipv6_address}")
    name = (wanted.driver_opts or {}).get("com.docker.network.endpoint.ifname")
    if name and not INTERFACE.fullmatch(name):
        problems.append(f"invalid interface name: {name}")
    problems += _sysctl_problems((wanted.driver_opts or {}).get(_SYSCTLS, ""))
    if problems:
        raise InvalidArgument("invalid endpoint settings:\n" + "\n".join(problems))
    check_mac(wanted.mac_address)


def _sysctl_problems(text: str) -> Iterator[str]:
    """Source: moby daemon/container_operations.go, validateEndpointSettings."""
    for one in text.split(",") if text else ():
        if not _SYSCTL.fullmatch(one):
            yield (
                f"unrecognised network interface sysctl '{one}'; represent 'net.X.Y.ethN.Z=V' as "
                "'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )


def sysctls_of(options: Mapping[str, str]) -> dict[str, str]:
    """Return the sysctls of an interface among the options of its endpoint, for the plumber."""
    found = (_SYSCTL.fullmatch(one) for one in options.get(_SYSCTLS, "").split(","))
    return {f"{it[1]}/{it[2]}/{it[3]}": it[4] for it in found if it}


def check_address(row: NetworkRow, wanted: EndpointSettings | None) -> None:
    """Check that a network gives the addresses that are wanted; raises InvalidArgument.

    Source: moby api/types/network/endpoint.go, validateEndpointIPAddress.
    """
    asked = wanted.ipam_config if wanted else None
    if not asked:
        return
    problems = []
    for text, subnet in ((asked.ipv4_address, row.subnet), (asked.ipv6_address, row.subnet6)):
        if not text:
            continue
        if not row.is_chosen or not subnet:
            problems.append(
                "user specified IP address is supported only when connecting to networks with "
                "user configured subnets"
            )
        elif ip_address(text) not in subnet:
            problems.append(f"no configured subnet or ip-range contain the IP address {text}")
    if problems:
        raise InvalidArgument(
            f"invalid config for network {row.network.name}: invalid endpoint settings:\n"
            + "\n".join(problems)
        )


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def check_mac(address: str) -> None:
    """Raise InvalidArgument for what is no MAC address; "" is none and fine."""
    if address and not _MAC.fullmatch(address):
        raise InvalidArgument(f"invalid MAC address: {address}")
