"""Endpoints in the kernel: interfaces of containers with their ports, links, routes and names.

Whoever calls holds the plumber's lock.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec

from sampan.errors import Internal, NotFound, SampanError
from sampan.network.checks import check_endpoint
from sampan.network.drivers.driver import Driver
from sampan.network.interface import set_routes
from sampan.network.made import Made
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import set_port
from sampan.network.plumber import EndpointSpec, NetworkSpec, Peer, PortMapping, ResolverSpec
from sampan.network.publishing.publishing import Publishing
from sampan.network.reservation import key_of
from sampan.network.resolver.names import Names
from sampan.network.rulebook import Rulebook
from sampan.network.sandbox import Wired, raise_loopback
from sampan.network.state import State
from sampan.network.veths import Veths
from sampan.rpc import Fd

log = logging.getLogger(__name__)


class Endpoints:
    """All endpoints of a plumber; `driver_of` gives the driver of one of its `networks`."""

    def __init__(
        self,
        host: RouteSocket,
        veths: Veths,
        state: State,
        publishing: Publishing,
        rules: Rulebook,
        names: Names,
        networks: Mapping[str, NetworkSpec],
        driver_of: Callable[[NetworkSpec], Driver[Any]],
    ) -> None:
        self._host, self._veths, self._state = host, veths, state
        self._publishing, self._rules, self._names = publishing, rules, names
        self._networks, self._driver_of = networks, driver_of
        self.made: dict[str, Made] = {}

    def known(self, endpoint_id: str) -> Made:
        """Return an endpoint; NotFound if there is none."""
        if not (endpoint := self.made.get(endpoint_id)):
            raise NotFound(f"endpoint {endpoint_id} not found")
        return endpoint

    def on(self, network_id: str) -> Sequence[Made]:
        """Return the endpoints on a network."""
        return [made for made in self.made.values() if made.spec.network_id == network_id]

    # --- coming and going --------------------------------------------------------------------

    def keep(self, endpoint: EndpointSpec, wired: Wired, *, own_sandbox: bool) -> Fd:
        """Note an endpoint that was wired just now; return its namespace."""
        network = self._networks[endpoint.network_id]
        with ExitStack() as undo:
            undo.callback(wired.sandbox.close)
            if not own_sandbox:
                raise_loopback(wired.sandbox)
            made = Made(endpoint, wired.outer, inner=0 if wired.outer else wired.inner)
            undo.callback(self._driver_of(network).detach, made, Fd(wired.sandbox.namespace))
            self._state.keep(made.record)
            self.made[endpoint.endpoint_id] = made
            self._names.attached(endpoint, network)
            undo.pop_all()
        return Fd(wired.sandbox.detach())

    def remove(self, endpoint: Made, sandbox: Fd | None = None) -> None:
        """Remove an endpoint, its interface and its published ports."""
        del self.made[endpoint.spec.endpoint_id]
        try:
            self._publishing.withdraw(endpoint)
        finally:
            self._publishing.end(endpoint)
            if network := self._networks.get(endpoint.spec.network_id):
                self._driver_of(network).detach(endpoint, sandbox)
            else:
                self._veths.cut(endpoint.outer)
            self._unlink(endpoint)
            self._state.forget("endpoints", endpoint.spec.endpoint_id)
            if container_id := self._names.detached(endpoint.spec.endpoint_id):
                self._state.forget("resolvers", container_id)

    def _unlink(self, gone: Made) -> None:
        """Let nobody reach by a link whoever gets the address next, nor them anybody."""
        linked = [made for made in self.made.values() if made.forget(gone)]
        for made in linked:
            self._state.keep(made.record)
        if linked or gone.peers:
            self._rules.write()

    # --- what they have ----------------------------------------------------------------------

    def publish(self, endpoint_id: str, ports: list[PortMapping]) -> list[PortMapping]:
        """Publish all ports or none, and return them with host ports filled in."""
        endpoint = self.known(endpoint_id)
        with ExitStack() as undo:
            taken = self._publishing.take(endpoint, ports)
            undo.callback(self._publishing.give_back, endpoint, taken)
            held = endpoint.ports + taken
            after = dataclasses.replace(endpoint, ports=held)
            # Where bridged packets pass through the firewall (br_netfilter), a container that
            # calls its own published port is sent back through the port it came from.
            if taken and endpoint.outer:
                self._host.attempt(set_port(endpoint.outer, hairpin=True))
            self._state.keep(after.record)
            self.made[endpoint_id] = after
            self._publishing.begin(endpoint.spec, taken)
            undo.pop_all()
        return [port.mapping for port in taken]

    def unpublish(self, endpoint_id: str, ports: list[PortMapping]) -> None:
        """Take published ports back; those that are not published are no error."""
        endpoint = self.known(endpoint_id)
        wanted = {key_of(it) for it in ports}
        gone = [it for it in endpoint.ports if it.key in wanted]
        former = Made(endpoint.spec, 0, gone)
        self._publishing.withdraw(former)
        endpoint.ports = [it for it in endpoint.ports if it not in gone]
        self._state.keep(endpoint.record)
        self._publishing.end(former)

    def link(self, endpoint_id: str, peers: list[Peer]) -> None:
        """Let an endpoint reach these ports of its network, and no others as before."""
        endpoint = self.known(endpoint_id)
        if endpoint.peers != peers:
            endpoint.peers = peers
            self._state.keep(endpoint.record)
            self._rules.write()

    def route(self, endpoint_id: str, gateway: str, gateway6: str, sandbox: Fd) -> None:
        """Have the default routes lead to gateways of an endpoint's network; "": no longer."""
        endpoint = self.known(endpoint_id)
        before = endpoint.spec
        spec = msgspec.structs.replace(before, gateway=gateway, gateway6=gateway6)
        check_endpoint(spec)
        try:
            set_routes(sandbox.number, before, spec)
        except OSError as error:
            raise Internal(f"failed to set the default route: {error}") from error
        endpoint.spec = spec
        self._state.keep(endpoint.record)
        self._names.renamed(spec)

    def rename(self, endpoint_id: str, names: list[str]) -> None:
        """Have an endpoint found by other names."""
        endpoint = self.known(endpoint_id)
        endpoint.spec = msgspec.structs.replace(endpoint.spec, names=names)
        self._state.keep(endpoint.record)
        self._names.renamed(endpoint.spec)

    def resolve(self, resolver: ResolverSpec, sandbox: Fd) -> None:
        """Answer DNS at 127.0.0.11 in a namespace: names on the networks of a container."""
        owners = {made.spec.container_id for made in self.made.values()}
        if resolver.container_id not in owners:
            raise NotFound(f"container {resolver.container_id} is on no network")
        self._state.keep(resolver)
        self._names.resolve(resolver, sandbox.number)

    # --- after another one -------------------------------------------------------------------

    def adopt(self, owner: str) -> None:
        """Take over what a predecessor has made; `owner` is the mark on its interfaces."""
        outer = {link.alias: link.index for link in self._host.links() if link.alias}
        for record in self._state.endpoints():
            name = record.endpoint.endpoint_id
            index = outer.get(f"{owner}:{name}", 0)
            if not index and not record.inner:  # it was being removed, or ended with its container
                self._state.forget("endpoints", name)
                continue
            ports = self._publishing.retake(record.ports)
            self.made[name] = Made(record.endpoint, index, ports, record.peers, record.inner)
            self._publishing.begin(record.endpoint, ports)
        self._adopt_names()

    def _adopt_names(self) -> None:
        placed = [
            (made.spec, self._networks[made.spec.network_id])
            for made in self.made.values()
            if made.spec.network_id in self._networks
        ]
        owners = {spec.container_id for spec, _ in placed}
        resolvers = self._state.resolvers()
        for gone in (it for it in resolvers if it.container_id not in owners):
            self._state.forget("resolvers", gone.container_id)
        try:
            self._names.adopt(placed, [it for it in resolvers if it.container_id in owners])
        except SampanError as error:
            log.warning("containers may not find one another by name: %s", error)
