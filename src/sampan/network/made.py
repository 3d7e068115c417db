"""Endpoints as the plumber made them, and what is to be forgotten after them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_interface

from sampan.network.firewall.firewall import BridgeRules, Forward, Pair
from sampan.network.plumber import BridgeSpec, Endpoint, EndpointSpec, Peer
from sampan.network.reservation import Reservation


@dataclass(slots=True)
class Stale:
    """Connection tracking entries to be forgotten."""

    addresses: set[IPv4Address | IPv6Address] = field(default_factory=set)
    host_ports: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Made:
    """An endpoint with its interface on the host and its published ports."""

    spec: EndpointSpec
    outer: int  # interface index on the host; 0: gone, or there is none
    ports: list[Reservation] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    inner: int = 0  # index inside, where there is none on the host

    @property
    def addresses(self) -> list[IPv4Address | IPv6Address]:
        """Return its addresses."""
        return [ip_interface(it).ip for it in (self.spec.address, self.spec.address6) if it]

    @property
    def forwards(self) -> list[Forward]:
        """Return its ports as the firewall has them; those of other families are relayed."""
        by_family = {address.version: str(address) for address in self.addresses}
        found = []
        for port in self.ports:
            mapping = port.mapping
            if address := by_family.get(6 if ":" in mapping.host_address else 4):
                found.append(
                    Forward(
                        mapping.protocol,
                        mapping.host_address,
                        mapping.host_port,
                        address,
                        mapping.container_port,
                    )
                )
        return found

    @property
    def pairs(self) -> list[Pair]:
        """Return whom it may reach, as the firewall has it."""
        own = str(self.addresses[0])
        return [Pair(own, peer.address, peer.protocol, peer.port) for peer in self.peers]

    def forget(self, gone: Made) -> bool:
        """Reach an endpoint that went no longer; tell whether it was reached."""
        address = str(gone.addresses[0])
        left = [peer for peer in self.peers if peer.address != address]
        was_linked = left != self.peers and self.spec.network_id == gone.spec.network_id
        self.peers = left if was_linked else self.peers
        return was_linked

    @property
    def record(self) -> Endpoint:
        """Return what the contract tells of it."""
        ports = [port.mapping for port in self.ports]
        return Endpoint(endpoint=self.spec, ports=ports, peers=self.peers, inner=self.inner)


def rules_of(bridge: BridgeSpec) -> BridgeRules:
    """Return what the firewall has to know of a bridge."""
    return BridgeRules(
        bridge.name,
        bridge.subnet,
        bridge.masquerade,
        bridge.inter_container,
        bridge.internal,
        bridge.subnet6,
        bridge.mode,
        bridge.mode6,
    )
