"""The address ranges of a new network, from four lists of flags that belong together.

Source of rules and sentences: docker/cli cli/command/network/create.go, createIPAMConfig.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def ranges_of(
    subnets: Sequence[str],
    ranges: Sequence[str],
    gateways: Sequence[str],
    auxiliary: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the API's IPAM.Config: each range, gateway and address with its subnet.

    Raises InvalidArgument if one has no subnet, or two share one.
    """
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise InvalidArgument("every ip-range or gateway must have a corresponding subnet")
    found: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        if any(_overlap(subnet, other) for other in found):
            raise InvalidArgument("multiple overlapping subnet configuration is not supported")
        found[subnet] = {"Subnet": subnet}
    for text in ranges:
        config = _subnet_of(text, found, "range")
        if "IPRange" in config:
            raise InvalidArgument(
                f"cannot configure multiple ranges ({text}, {config['IPRange']}) on the same "
                f"subnet ({config['Subnet']})"
            )
        config["IPRange"] = text
    for text in gateways:
        config = _subnet_of(text, found, "gateway")
        if "Gateway" in config:
            raise InvalidArgument(
                f"cannot configure multiple gateways ({text}, {config['Gateway']}) for the same "
                f"subnet ({config['Subnet']})"
            )
        config["Gateway"] = text
    for name, text in auxiliary.items():
        config = _subnet_of(text, found, "aux-address")
        config.setdefault("AuxiliaryAddresses", {})[name] = text
    return list(found.values())


def _subnet_of(text: str, found: Mapping[str, dict[str, Any]], what: str) -> dict[str, Any]:
    for subnet, config in found.items():
        if _contains(subnet, text):
            return config
    raise InvalidArgument(f"no matching subnet for {what} {text}")


def _overlap(one: str, other: str) -> bool:
    try:
        return ip_network(one, strict=False).overlaps(ip_network(other, strict=False))
    except (ValueError, TypeError):
        return False  # what is no subnet is for the daemon to refuse


def _contains(subnet: str, text: str) -> bool:
    try:
        address = ip_address(text.partition("/")[0])
        return address in ip_network(subnet, strict=False)
    except ValueError:
        return False
