"""A firewall without a rule about IPv6 (`--ip6tables=false`): that is the administrator's then."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sampan.network.firewall.firewall import Firewall, Forward, Rules


class OnlyIPv4:
    """Hands on what concerns IPv4; ports published on IPv6 addresses are served by relays."""

    def __init__(self, firewall: Firewall) -> None:
        self._firewall = firewall

    def apply(self, rules: Rules) -> None:
        """Put the rules of IPv4 in place of all of ours."""
        bridges = tuple(replace(it, subnet6="", filters6=False) for it in rules.bridges)
        forwards = frozenset(_of_ipv4(rules.forwards))
        self._firewall.apply(replace(rules, bridges=bridges, forwards=forwards, uplinks6=()))

    def add(self, forwards: Collection[Forward]) -> None:
        """Add forwards."""
        self._firewall.add(_of_ipv4(forwards))

    def remove(self, forwards: Collection[Forward]) -> None:
        """Take forwards away."""
        self._firewall.remove(_of_ipv4(forwards))

    def admit(self, interface: str) -> None:
        """Let the host's own rules pass what a bridge forwards."""
        self._firewall.admit(interface)

    def dismiss(self, interface: str) -> None:
        """Take back `admit`."""
        self._firewall.dismiss(interface)

    def is_intact(self) -> bool:
        """Tell whether all of ours is still there."""
        return self._firewall.is_intact()

    def clear(self) -> None:
        """Remove all of ours."""
        self._firewall.clear()


def _of_ipv4(forwards: Collection[Forward]) -> list[Forward]:
    return [forward for forward in forwards if ":" not in forward.host_address]
