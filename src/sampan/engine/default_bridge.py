"""The network `bridge`: what the daemon's options and the host make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from sampan.engine.blocking import blocking
from sampan.engine.network_database import NetworkRow
from sampan.engine.network_model import NetworkOptions
from sampan.engine.network_requests import default_bridge
from sampan.errors import InvalidArgument, SampanError
from sampan.network import ipam
from sampan.network.plumber import Plumber


async def plan(
    options: NetworkOptions,
    plumber: Plumber,
    former: NetworkRow | None,
    taken: Sequence[str],
    warn: Callable[[str], None],
) -> NetworkRow:
    """Return the row that the options ask for; `former` is that of the last start.

    Raises InvalidArgument for options that contradict one another. `warn` is told if no range is
    free: the network cannot be used then.
    """
    fixed = _network(options.fixed_cidr, "fixed-cidr")
    present = None
    if options.bridge != NetworkOptions().bridge:
        present = await blocking(plumber.foreign_bridge, options.bridge)
    if present and options.bip:
        raise InvalidArgument(
            "You specified -b & --bip, mutually exclusive options. Please specify only one"
        )
    if present:
        address = _interface(present[0])
    elif options.bip:
        address = _interface(options.bip)
    elif fixed:
        address = IPv4Interface((ipam.gateway_of(fixed), fixed.prefixlen))
    else:
        pools = [str(former.subnet)] if former else []
        pools += ipam.subnets(options.default_address_pools)
        own = former.interface if former else ""
        try:
            subnet = IPv4Network(await blocking(plumber.free_subnet, pools, list(taken), own))
        except SampanError as error:
            warn(f"the default bridge has no address range: {error}")
            subnet = IPv4Network(pools[0])
        address = IPv4Interface((ipam.gateway_of(subnet), subnet.prefixlen))
    if fixed and not fixed.subnet_of(address.network):
        raise InvalidArgument(f"fixed-cidr {fixed} is not within the default bridge's {address}")
    row = default_bridge(options, address, fixed)
    row.foreign = present is not None
    if options.default_gateway:
        gateway = IPv4Address(options.default_gateway)
        if gateway not in address.network:
            raise InvalidArgument(f"default gateway {gateway} must be part of {address.network}")
        row.default_gateway = str(gateway)
        (row.network.ipam.config or [])[0].aux_address = {"DefaultGatewayIPv4": str(gateway)}
    if former:
        row.network.id, row.network.created = former.network.id, former.network.created
    return row


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
