"""The daemon's options about networks: values that cannot work, alone or together.

Names and sentences are dockerd's where it has one: moby daemon/daemon_unix.go,
verifyDaemonSettings. What only the host can tell (is the range free, is the bridge there) is
checked when the default bridge is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.configuration.options import BY_FLAG

_NO_BRIDGE = "none"
_ADDRESSES = {"default-gateway": 4, "default-gateway-v6": 6, "ip": 0, "host-gateway-ip": 0}
_INTERFACES = {"bip": 4, "bip6": 6}
_NETWORKS = {"fixed-cidr": 4, "fixed-cidr-v6": 6}
_OF_IPV6 = ("bip6", "fixed-cidr-v6", "default-gateway-v6")


def check(config: Config) -> None:
    """Raise UsageError for an address, a range or a combination that cannot work."""
    _check_combinations(config)
    import ipaddress  # only root's supervisor has to know it, and only if there is something

    def version(parse: Callable[[str], Any], flag: str, wanted: int) -> None:
        if not (text := config[flag]) or text == BY_FLAG[flag].default:
            return
        try:
            parsed = parse(text)
        except ValueError as error:
            raise UsageError(f"invalid {flag}: {error}") from error
        if wanted and parsed.version != wanted:
            raise UsageError(f"invalid {flag}: {text} is no IPv{wanted} address")

    for flag, family in _ADDRESSES.items():
        version(ipaddress.ip_address, flag, family)
    for flag, family in _INTERFACES.items():
        version(ipaddress.ip_interface, flag, family)
    for flag, family in _NETWORKS.items():
        version(ipaddress.ip_network, flag, family)
    for text in config["dns"]:
        try:
            ipaddress.ip_address(text)
        except ValueError as error:
            raise UsageError(f"invalid dns: {error}") from error
    _check_within(config, "bip", "fixed-cidr", "default-gateway")
    _check_within(config, "bip6", "fixed-cidr-v6", "default-gateway-v6")
    for pool in address_pools(config["default-address-pool"]):
        _check_pool(*pool)


def _check_combinations(config: Config) -> None:
    if config["bridge"] == _NO_BRIDGE:
        for flag in (*_INTERFACES, *_NETWORKS, "default-gateway", "default-gateway-v6"):
            if config[flag]:
                raise UsageError(
                    f"You specified -b & --{flag}, mutually exclusive options. "
                    "Please specify only one"
                )
    if not config["iptables"] and not config["icc"]:
        raise UsageError(
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. "
            "Please set --icc or --iptables to true"
        )
    if not config["ip6tables"] and not config["icc"]:
        raise UsageError(
            "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to "
            "function. Please set --icc or --ip6tables to true"
        )
    if not config["iptables"] and "firewall-backend" in config.given:
        raise UsageError(
            "You specified --iptables=false & --firewall-backend, mutually exclusive options. "
            "Please specify only one"
        )


def _check_within(config: Config, bip: str, *parts: str) -> None:
    """Refuse what is not in the range of the bridge's address, if that is given."""
    if not config[bip]:
        return
    import ipaddress

    subnet: Any = ipaddress.ip_interface(config[bip]).network
    for flag in parts:
        part: Any = ipaddress.ip_network(config[flag]) if config[flag] else None
        if part is not None and not part.subnet_of(subnet):
            raise UsageError(f"invalid {flag}: {config[flag]} is not within {bip} {config[bip]}")


def address_pools(pools: Any) -> tuple[tuple[str, int], ...]:
    """Return the pools of --default-address-pool ("base=10.0.0.0/8,size=24") and of the file."""
    found = []
    for pool in pools:
        given = pool
        if isinstance(given, str):
            given = dict(part.partition("=")[::2] for part in given.split(","))
        try:
            found.append((str(given["base"]), int(given["size"])))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"invalid default address pool: {pool}") from error
    return tuple(found)


def _check_pool(base: str, size: int) -> None:
    import ipaddress

    try:
        subnet = ipaddress.ip_network(base)
    except ValueError as error:
        raise UsageError(f"invalid default address pool: {error}") from error
    if not subnet.prefixlen <= size <= subnet.max_prefixlen - 2:
        raise UsageError(f"invalid default address pool: {base} has no networks of size {size}")


def without_effect(config: Config) -> Iterator[str]:
    """Yield a warning for each option that dockerd takes as well and that changes nothing."""
    for flag in _OF_IPV6:
        if config[flag] and not config["ipv6"]:
            yield f"WARNING: --{flag} has no effect: the default bridge has IPv6 only with --ipv6"
