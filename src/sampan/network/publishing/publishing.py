"""Host ports that lead to endpoints: held, redirected by the firewall, or served by relays."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from ipaddress import IPv4Interface

from sampan.network.firewall.failures import firewall_errors
from sampan.network.firewall.firewall import Firewall
from sampan.network.firewall.none import NoFirewall
from sampan.network.made import Made, Stale
from sampan.network.plumber import EndpointSpec, PortMapping
from sampan.network.publishing import conntrack
from sampan.network.publishing.relays import Relays
from sampan.network.reservation import Reservation, Reservations

log = logging.getLogger(__name__)


class Publishing:
    """All published ports; relays only with `defers`, if somebody calls `handle`."""

    def __init__(self, firewall: Firewall, *, defers: bool) -> None:
        self._firewall, self._defers = firewall, defers
        self._reservations = Reservations()
        self._relays = Relays()
        self._stale = Stale()

    def take(self, endpoint: Made, ports: Sequence[PortMapping]) -> list[Reservation]:
        """Hold and redirect all ports or none; `begin` does the rest.

        Conflict in Docker's words if one is taken.
        """
        taken = self._reservations.take(ports)
        try:
            with firewall_errors():
                self._firewall.add(_only(endpoint, taken).forwards)
        except BaseException:
            self._reservations.release(taken)
            raise
        return taken

    def retake(self, ports: Sequence[PortMapping]) -> list[Reservation]:
        """Hold ports that a predecessor has published."""
        return [self._reservations.retake(mapping) for mapping in ports]

    def give_back(self, endpoint: Made, taken: Sequence[Reservation]) -> None:
        """Take `take` back."""
        try:
            self._firewall.remove(_only(endpoint, taken).forwards)
        finally:
            self._reservations.release(taken)

    def begin(self, endpoint: EndpointSpec, ports: Sequence[Reservation]) -> None:
        """Serve what is not the firewall's, and have old flows find their new way."""
        address = str(IPv4Interface(endpoint.address).ip)
        for port in ports:
            if port.socket and self._is_relayed(port) and self._defers:
                target = (address, port.mapping.container_port)
                self._relays.add(port.socket, port.mapping.protocol, target)
            if port.mapping.protocol == "udp" and not port.mapping.routed:
                self._stale.host_ports.add(port.mapping.host_port)

    def _is_relayed(self, port: Reservation) -> bool:
        return ":" in port.mapping.host_address or isinstance(self._firewall, NoFirewall)

    def withdraw(self, endpoint: Made) -> None:
        """Redirect the ports of an endpoint no longer; `end` does the rest."""
        with firewall_errors():
            self._firewall.remove(endpoint.forwards)

    def end(self, endpoint: Made) -> None:
        """Serve the ports of an endpoint no longer, and let others have them."""
        for port in endpoint.ports:
            if port.socket:
                self._relays.remove(port.socket)
            if port.mapping.protocol == "udp":
                self._stale.addresses.update(endpoint.addresses)
        self._reservations.release(endpoint.ports)

    # --- work between calls ------------------------------------------------------------------

    @property
    def has_stale_flows(self) -> bool:
        """Whether `forget_flows` has something to do."""
        return bool(self._stale.addresses or self._stale.host_ports)

    def forget_flows(self) -> None:
        """Have the kernel forget flows of UDP that lead where ports no longer lead."""
        stale, self._stale = self._stale, Stale()
        try:
            conntrack.forget_udp(stale.addresses, stale.host_ports)
        except OSError as error:
            log.warning("UDP flows of former ports were not forgotten: %s", error)

    def watched(self) -> list[int]:
        """Return descriptors to be handed to `handle` when they are readable."""
        return self._relays.watched()

    def handle(self, descriptor: int) -> None:
        """Begin or end a relay."""
        self._relays.handle(descriptor)


def _only(endpoint: Made, ports: Sequence[Reservation]) -> Made:
    return Made(endpoint.spec, endpoint.outer, list(ports))
