"""What is wrong with the address ranges that a user wants for a network.

Source of rules and sentences: moby api/types/network/ipam.go, ValidateIPAM.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

from sampan.spec.docker.networks import IPAMConfig

Range = IPv4Interface | IPv6Interface


def family_of(subnet: str) -> int:
    """Return 4 or 6; 0 for what is no subnet."""
    return parsed.version if (parsed := _parse(subnet)) else 0


def _parse(text: str) -> Range | None:
    try:
        return ip_interface(text) if "/" in text else None
    except ValueError:
        return None


def range_problems(config: IPAMConfig) -> Iterator[str]:
    """Yield a sentence for all that is wrong with one subnet and what belongs to it."""
    if not config.subnet:
        if config.ip_range or config.gateway or config.aux_address:
            yield "invalid subnet : invalid CIDR block notation"
        return
    subnet = _parse(config.subnet)
    if subnet is None:
        yield f"invalid subnet {config.subnet}: invalid CIDR block notation"
        return
    if subnet.ip != subnet.network.network_address:
        yield f"invalid subnet {subnet}: it should be {subnet.network}"
    elif subnet.network.num_addresses < 4:
        yield f"invalid subnet {subnet}: it has no room for containers"
    if config.ip_range:
        yield from _of_range(config.ip_range, subnet)
    if reason := _of_address(config.gateway, subnet):
        yield f"invalid gateway {config.gateway}: {reason}"
    for name, address in (config.aux_address or {}).items():
        if reason := _of_address(address, subnet):
            yield f"invalid auxiliary address {name}: {reason}"


def _of_range(text: str, subnet: Range) -> Iterator[str]:
    part = _parse(text)
    if part is None:
        yield f"invalid ip-range {text}: invalid CIDR block notation"
        return
    if part.version != subnet.version:
        yield f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"
        return
    if part.network.prefixlen < subnet.network.prefixlen:
        yield (
            f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet.network}"
        )
    if part.ip != part.network.network_address:
        yield f"invalid ip-range {text}: it should be {part.network}"
    if part.ip not in subnet.network and subnet.ip not in part.network:
        yield f"invalid ip-range {text}: parent subnet {subnet.network} doesn't contain ip-range"


def _of_address(text: str, subnet: Range) -> str:
    if not text:
        return ""
    try:
        address = ip_address(text.partition("/")[0])
    except ValueError:
        return "invalid address"
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    if address not in subnet.network:
        return f"parent subnet {subnet.network} doesn't contain this address"
    return ""
