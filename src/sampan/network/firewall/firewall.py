"""What the plumber asks of a firewall: address translation and filtering for bridges, as data."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from sampan.network.plumber import GatewayMode


@dataclass(frozen=True, slots=True)
class BridgeRules:
    """How traffic of one bridge is treated."""

    interface: str
    subnet: str
    masquerade: bool = True
    inter_container: bool = True
    internal: bool = False
    subnet6: str = ""
    mode: GatewayMode = "nat"
    mode6: GatewayMode = "nat"
    filters6: bool = True  # False: no rules about IPv6

    @property
    def protected(self) -> list[str]:
        """Return the families of which only what is published comes in from elsewhere."""
        modes = {"ipv4": self.mode, **({"ipv6": self.mode6} if self.filters6 else {})}
        return [family for family, mode in modes.items() if mode != "nat-unprotected"]


@dataclass(frozen=True, slots=True)
class Forward:
    """Traffic to a host's address and port goes to a container's of the same family.

    With the host's port 0, traffic to the container's own address and port is let through.
    """

    protocol: str
    host_address: str  # 0.0.0.0 and ::: every address of the host
    host_port: int
    container_address: str
    container_port: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One container may reach a port of another; IPv4."""

    client: str
    server: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Rules:
    """All that is to be so.

    Between `uplinks` no IPv4 packets are forwarded, between `uplinks6` none of IPv6: they were
    not forwarding before we switched it on. `pairs` reach one another on bridges where others
    do not.
    """

    bridges: tuple[BridgeRules, ...] = ()
    forwards: frozenset[Forward] = frozenset()
    uplinks: tuple[str, ...] = ()
    uplinks6: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()


class Firewall(Protocol):
    """Rules of ours in the kernel; each call takes effect at once and as a whole, or not at all.

    Raises OSError with the back-end's words.
    """

    def apply(self, rules: Rules) -> None:
        """Put exactly these rules in place of all of ours."""

    def add(self, forwards: Collection[Forward]) -> None:
        """Add forwards."""

    def remove(self, forwards: Collection[Forward]) -> None:
        """Take forwards away; those that are gone already are no error."""

    def admit(self, interface: str) -> None:
        """Let the host's own rules pass what a bridge forwards, where they would drop it."""

    def dismiss(self, interface: str) -> None:
        """Take back `admit`."""

    def is_intact(self) -> bool:
        """Tell whether all of ours is still there, `admit` included."""

    def clear(self) -> None:
        """Remove all of ours."""
