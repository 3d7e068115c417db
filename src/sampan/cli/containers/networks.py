"""The networks of a new container, from --network and the flags that describe the first one.

Source of rules and sentences: docker/cli cli/command/container/opts.go, parseNetworkOpts.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.containers.flags import ContainerOptions

OWN_MODES = ("default", "bridge", "host", "none")
# What a plain flag says about the first network: the flag's attribute, and the key of the long form
CONFLICTS = (
    ("network_alias", "alias", "--network-alias and per-network alias"),
    ("ip", "ip", "--ip and per-network IPv4 address"),
    ("ip6", "ip6", "--ip6 and per-network IPv6 address"),
    ("mac_address", "mac-address", "--mac-address and per-network MAC address"),
    (
        "link_local_ip",
        "link-local-ip",
        "--link-local-ip and per-network link-local IP addresses",
    ),
)


def is_user_defined(name: str) -> bool:
    return name not in OWN_MODES and not name.startswith("container:")


def endpoints_of(options: ContainerOptions) -> dict[str, Any]:
    """Return the API's EndpointsConfig. Raises InvalidArgument."""
    networks = options.network or [{"name": "default"}]
    found: dict[str, Any] = {}
    kinds: set[bool] = set()
    for index, given in enumerate(networks):
        name = given["name"]
        network = _merged(given, options) if index == 0 else given
        endpoint = _endpoint(network)
        if name in found:
            raise InvalidArgument(f'network "{name}" is specified multiple times')
        if options.network:
            kinds.add(is_user_defined(name))
            if len(networks) == 1 and not endpoint:
                continue  # the daemon makes it
        found[name] = endpoint
    if len(kinds) == 2:
        raise InvalidArgument(
            "conflicting options: cannot attach both user-defined "
            "and non-user-defined network-modes"
        )
    return found


def _merged(given: dict[str, Any], options: ContainerOptions) -> dict[str, Any]:
    network = dict(given)
    for attribute, key, both in CONFLICTS:
        value = getattr(options, attribute)
        if value and network.get(key):
            raise InvalidArgument(f"conflicting options: cannot specify both {both}")
        if value:
            network[key] = value
    # On the default bridge --link is a legacy link, which is the host configuration's.
    if options.link and is_user_defined(network["name"]):
        network["link"] = options.link
    return network


def _endpoint(network: dict[str, Any]) -> dict[str, Any]:
    name = network["name"]
    if not name.strip():
        raise InvalidArgument("no name set for network")
    if not is_user_defined(name) and network.get("alias"):
        raise InvalidArgument("network-scoped aliases are only supported for user-defined networks")
    addresses = {
        "IPv4Address": network.get("ip"),
        "IPv6Address": network.get("ip6"),
        "LinkLocalIPs": network.get("link-local-ip"),
    }
    endpoint = {
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
        "Links": network.get("link"),
        "Aliases": network.get("alias"),
        "MacAddress": _mac(network.get("mac-address", "")),
        "DriverOpts": network.get("driver-opt"),
        "GwPriority": network.get("gw-priority"),
    }
    return {key: value for key, value in endpoint.items() if value}


def _mac(text: str) -> str:
    if not text:
        return ""
    import re

    if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", text.strip()):
        raise InvalidArgument(f"{text} is not a valid mac address")
    return text.strip().lower().replace("-", ":")
