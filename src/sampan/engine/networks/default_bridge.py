"""The network `bridge`: what the daemon's options and the host make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)

from sampan.engine.blocking import blocking
from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.model import NetworkOptions
from sampan.engine.networks.requests import default_bridge
from sampan.errors import InvalidArgument, SampanError
from sampan.network import ipam
from sampan.network.plumber import Plumber
from sampan.spec.docker.networks import IPAMConfig


async def plan(
    options: NetworkOptions,
    plumber: Plumber,
    former: NetworkRow | None,
    taken: Sequence[str],
    seed: str,
    warn: Callable[[str], None],
) -> NetworkRow:
    """Return the row that the options ask for; `former` is that of the last start.

    Raises InvalidArgument for options that contradict one another. `warn` is told if no range is
    free: the network cannot be used then. `seed` decides the range of IPv6 that nobody chose.
    """
    present = None
    if options.bridge != NetworkOptions().bridge:
        present = await blocking(plumber.foreign_bridge, options.bridge)
    if present and options.bip:
        raise InvalidArgument(
            "You specified -b & --bip, mutually exclusive options. Please specify only one"
        )
    fixed = _network(options.fixed_cidr, "fixed-cidr")
    if present:
        address = _interface(present[0])
    elif options.bip:
        address = _interface(options.bip)
    elif fixed:
        address = IPv4Interface((ipam.gateway_of(fixed), fixed.prefixlen))
    else:
        address = await _free(options, plumber, former, taken, warn)
    if fixed and not fixed.subnet_of(address.network):
        raise InvalidArgument(f"fixed-cidr {fixed} is not within the default bridge's {address}")
    ip_range = str(fixed) if fixed else ""
    ranges = [IPAMConfig(subnet=str(address.network), ip_range=ip_range, gateway=str(address.ip))]
    if options.ipv6:
        ranges.append(_range6(options, seed))
    row = default_bridge(options, ranges)
    row.foreign = present is not None
    _set_gateways(row, options)
    if former:
        row.network.id, row.network.created = former.network.id, former.network.created
    return row


async def _free(
    options: NetworkOptions,
    plumber: Plumber,
    former: NetworkRow | None,
    taken: Sequence[str],
    warn: Callable[[str], None],
) -> IPv4Interface:
    """Return the bridge's address in the range that it had, or in the first free one."""
    pools = [str(former.subnet)] if former else []
    pools += ipam.subnets(options.default_address_pools)
    own = former.interface if former else ""
    try:
        subnet = IPv4Network(await blocking(plumber.free_subnet, pools, list(taken), own))
    except SampanError as error:
        warn(f"the default bridge has no address range: {error}")
        subnet = IPv4Network(pools[0])
    return IPv4Interface((ipam.gateway_of(subnet), subnet.prefixlen))


def _set_gateways(row: NetworkRow, options: NetworkOptions) -> None:
    """Have default routes lead where the options say; nobody else gets those addresses."""
    row.default_gateway = options.default_gateway
    row.default_gateway6 = options.default_gateway6 if row.config6 else ""
    for family, text, config in (
        (4, row.default_gateway, row.config),
        (6, row.default_gateway6, row.config6),
    ):
        if text and config:
            if ip_address(text) not in ip_network(config.subnet):
                raise InvalidArgument(f"default gateway {text} must be part of {config.subnet}")
            config.aux_address = {f"DefaultGatewayIPv{family}": text}


def _range6(options: NetworkOptions, seed: str) -> IPAMConfig:
    """Return the range of IPv6: that of bip6, of fixed-cidr-v6, or one of our own."""
    try:
        fixed = IPv6Network(options.fixed_cidr6) if options.fixed_cidr6 else None
        address = IPv6Interface(options.bip6) if options.bip6 else None
    except ValueError as error:
        raise InvalidArgument(f"invalid IPv6 range of the default bridge: {error}") from error
    if address is None:
        subnet = fixed or ipam.unique_local(seed)
        return IPAMConfig(subnet=str(subnet), gateway=str(subnet.network_address + 1))
    if fixed and not fixed.subnet_of(address.network):
        raise InvalidArgument(f"fixed-cidr-v6 {fixed} is not within the default bridge's {address}")
    return IPAMConfig(
        subnet=str(address.network), ip_range=str(fixed) if fixed else "", gateway=str(address.ip)
    )


def _network(text: str, what: str) -> IPv4Network | None:
    if not text:
        return None
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid {what}: {error}") from error


def _interface(text: str) -> IPv4Interface:
    try:
        return IPv4Interface(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid address of the default bridge (bip): {error}") from error
