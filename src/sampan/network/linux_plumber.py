"""The Plumber on the kernel: netlink and nftables, no program is ever executed."""

from __future__ import annotations

import logging
from collections import ChainMap
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from sampan.errors import Internal, InvalidArgument, NotFound, SampanError
from sampan.network import leftovers, plugs
from sampan.network.checks import (
    check_endpoint,
    check_names,
    check_network,
    check_peer,
    check_port,
    check_resolver,
)
from sampan.network.chores import Chores
from sampan.network.drivers import bridge, parents
from sampan.network.drivers.bridge import BridgeDriver
from sampan.network.drivers.driver import Driver
from sampan.network.drivers.ipvlan import IpvlanDriver
from sampan.network.drivers.macvlan import MacvlanDriver
from sampan.network.drivers.parents import Parents
from sampan.network.endpoints import Endpoints
from sampan.network.firewall.firewall import Firewall
from sampan.network.firewall.nftables import Nftables
from sampan.network.forwarding import forward_packets
from sampan.network.made import Made
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.plugs import Host, Plugs
from sampan.network.plumber import (
    BridgeSpec,
    Endpoint,
    EndpointSpec,
    IpvlanSpec,
    MacvlanSpec,
    NetworkSpec,
    Peer,
    PlugSpec,
    PortMapping,
    ResolverSpec,
)
from sampan.network.publishing.publishing import Publishing
from sampan.network.resolver.names import RESOLV_CONF, Names
from sampan.network.rulebook import Rulebook
from sampan.network.sandbox import POOL_SIZE, Sandbox, Wired
from sampan.network.state import Forwarding, State
from sampan.network.veths import Veths, index_of
from sampan.rpc import Fd

log = logging.getLogger(__name__)

_POOL: Final = "pool"  # the mark of interfaces in stock
#: Of interfaces that are no endpoint's.
_MARKS: Final = (_POOL, bridge.MARK, parents.MARK, plugs.MARK)


class LinuxPlumber:
    """Does the work of the `Plumber` contract in the network namespace where it was made.

    `state` is a folder on a tmpfs that lets a successor find what this one made. `owner` is the
    name of the firewall table and the mark on interfaces. With `defers` the caller has a loop that
    does the `chores`: then namespaces are kept in stock, and IPv6 addresses of the host
    lead to containers. Without it every call still works, only slower.
    """

    def __init__(
        self,
        state: Path | None = None,
        *,
        owner: str = "sampan",
        firewall: Firewall | None = None,
        defers: bool = False,
        resolv_conf: Path = RESOLV_CONF,
    ) -> None:
        self._owner = owner
        self._host = RouteSocket()
        self._veths = Veths(self._host, POOL_SIZE if defers else 0, f"{owner}:{_POOL}")
        self._defers = defers
        firewall = firewall or Nftables(owner)
        self._state = State(state)
        self._publishing = Publishing(firewall, defers=defers)
        self._rules = Rulebook(firewall, self._state, self._present, watches=defers)
        self._names = Names(state, resolv_conf)
        self.chores = Chores(
            self._veths,
            self._publishing,
            self._rules,
            self._names,
            lambda: bool(self._present()[0]),
        )
        self._lock = self.chores.lock
        self._networks = {network.network_id: network for network in self._state.networks()}
        self._bridges = BridgeDriver(self._host, self._veths, owner)
        laid: dict[str, NetworkSpec] = {}
        shared = Parents(self._host, ChainMap(self._networks, laid), owner)
        macvlan = MacvlanDriver(shared)
        self._drivers: dict[type[NetworkSpec], Driver[Any]] = {
            BridgeSpec: self._bridges,
            MacvlanSpec: macvlan,
            IpvlanSpec: IpvlanDriver(shared),
        }
        host = Host(self._host, self._veths, macvlan, self._networks, laid)
        self._plugs = Plugs(host, self._state, owner)
        self._endpoints = Endpoints(
            self._host,
            self._veths,
            self._state,
            self._publishing,
            self._rules,
            self._names,
            self._networks,
            self._driver,
        )
        self._adopt()

    # --- networks --------------------------------------------------------------------------

    def ensure_network(self, network: NetworkSpec) -> None:
        """Make or repair a bridge with its address, forwarding and rules, or a parent."""
        check_network(network)
        with self._lock:
            before = self._networks.get(network.network_id)
            if before and _place(before) != _place(network):
                self.remove_network(network.network_id)
            self._driver(network).ensure(network)
            if isinstance(network, BridgeSpec):
                self._forward(network)
            self._networks[network.network_id] = network
            self._state.keep(network)
            if isinstance(network, BridgeSpec):
                self._rules.write()
                self._rules.admit(network)
            if network.domain and self._defers:
                self._names.prepare()

    def _forward(self, network: BridgeSpec) -> None:
        known = self._state.forwarding() or Forwarding()
        try:
            others = self._present()[0]
            forward_packets(self._host, network, others, known, self._state.keep)
        except OSError as error:
            raise Internal(f"failed to set up bridge {network.name}: {error}") from error

    def remove_network(self, network_id: str) -> None:
        """Remove a network with its rules and endpoints; unknown ids are no error."""
        with self._lock:
            if not (network := self._networks.pop(network_id, None)):
                return
            for endpoint in self._endpoints.on(network_id):
                self._endpoints.remove(endpoint)
            if isinstance(network, BridgeSpec):
                self._rules.dismiss(network)
            self._driver(network).remove(network)
            self._state.forget("networks", network_id)
            self._rules.write()
            if not any(other.domain for other in self._networks.values()):
                self._names.release()

    def foreign_bridge(self, name: str) -> list[str] | None:
        """Return the IPv4 addresses of a bridge that is not ours; None if there is none."""
        with self._lock:
            return self._bridges.foreign(name)

    def free_subnet(self, pools: list[str], taken: list[str], own: str = "") -> str:
        """Return the first subnet of `pools` that no route, address or member of `taken` uses."""
        with self._lock:
            mine = index_of(own)
            used = [IPv4Network(subnet) for subnet in taken]
            used += [each.network for index, each in self._host.addresses() if index != mine]
            used += [each.destination for each in self._host.routes() if each.index != mine]
        used = [subnet for subnet in used if subnet.prefixlen]  # not the default route
        for pool in pools:
            if not any(IPv4Network(pool).overlaps(subnet) for subnet in used):
                return pool
        raise InvalidArgument("all predefined address pools have been fully subnetted")

    # --- endpoints -------------------------------------------------------------------------

    def sandbox(self) -> Fd:
        """Return a fresh network namespace with loopback up (and nothing else)."""
        with self._lock:
            return Fd(Sandbox.new().detach())

    def attach(self, endpoint: EndpointSpec, sandbox: Fd | None = None) -> Fd:
        """Put an interface with address and routes into a namespace, by default a fresh one."""
        check_endpoint(endpoint)
        with self._lock:
            if not (network := self._networks.get(endpoint.network_id)):
                raise NotFound(f"network {endpoint.network_id} not found")
            self.detach(endpoint.endpoint_id, sandbox)
            wired = self._wire(endpoint, network, sandbox)
            return self._endpoints.keep(endpoint, wired, own_sandbox=sandbox is None)

    def _wire(self, endpoint: EndpointSpec, network: NetworkSpec, sandbox: Fd | None) -> Wired:
        try:
            return self._driver(network).attach(endpoint, network, sandbox)
        except Internal:
            if not isinstance(network, BridgeSpec):
                raise
            known = self._endpoints.on(endpoint.network_id)
            if not self._bridges.restore(network, [it.outer for it in known if it.outer]):
                raise
            self.ensure_network(network)
            return self._bridges.attach(endpoint, network, sandbox)

    def detach(self, endpoint_id: str, sandbox: Fd | None = None) -> None:
        """Remove an endpoint, its interface and its published ports."""
        with self._lock:
            if endpoint := self._endpoints.made.get(endpoint_id):
                self._endpoints.remove(endpoint, sandbox)
            self._finish()

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints, those of a predecessor as well."""
        with self._lock:
            return [endpoint.record for endpoint in self._endpoints.made.values()]

    def publish(self, endpoint_id: str, ports: list[PortMapping]) -> list[PortMapping]:
        """Publish all ports or none, and return them with host ports filled in."""
        for port in ports:
            check_port(port)
        with self._lock:
            return self._endpoints.publish(endpoint_id, ports)

    def unpublish(self, endpoint_id: str, ports: list[PortMapping]) -> None:
        """Take published ports back; those that are not published are no error."""
        with self._lock:
            self._endpoints.unpublish(endpoint_id, ports)

    def link(self, endpoint_id: str, peers: list[Peer]) -> None:
        """Let an endpoint reach these ports of its network, and no others as before."""
        for peer in peers:
            check_peer(peer)
        with self._lock:
            self._endpoints.link(endpoint_id, peers)

    def route(self, endpoint_id: str, gateway: str, gateway6: str, sandbox: Fd) -> None:
        """Have the default routes lead to gateways of an endpoint's network; "": no longer."""
        with self._lock:
            self._endpoints.route(endpoint_id, gateway, gateway6, sandbox)

    def resolve(self, resolver: ResolverSpec, sandbox: Fd) -> None:
        """Answer DNS at 127.0.0.11 in a namespace: names on the networks of a container."""
        check_resolver(resolver)
        with self._lock:
            self._endpoints.resolve(resolver, sandbox)

    def rename(self, endpoint_id: str, names: list[str]) -> None:
        """Have an endpoint found by other names."""
        check_names(names)
        with self._lock:
            self._endpoints.rename(endpoint_id, names)

    # --- by hand -----------------------------------------------------------------------------

    def plug(self, plug: PlugSpec, sandbox: Fd, peer: Fd | None = None) -> PlugSpec:
        """Put an interface into a namespace that a user has asked for; return its name in it."""
        with self._lock:
            return self._plugs.plug(plug, sandbox, peer)

    def unplug(self, plug_id: str, sandbox: Fd | None = None, peer: Fd | None = None) -> None:
        """Take it back, with what was made for it on the host."""
        with self._lock:
            self._plugs.unplug(plug_id, sandbox, peer)
            self._finish()

    def plugs(self) -> list[PlugSpec]:
        """Return all that is plugged, by a predecessor as well."""
        with self._lock:
            return self._plugs.all()

    def reconcile(self, endpoint_ids: list[str], network_ids: list[str] | None = None) -> None:
        """Remove all endpoints, plugs, networks and rules of ours that are not listed."""
        with self._lock:
            wanted = set(endpoint_ids)
            for known, endpoint in list(self._endpoints.made.items()):
                if known not in wanted:
                    self._endpoints.remove(endpoint)
            self._plugs.reconcile(endpoint_ids)
            for link in self._host.links():
                owner, _, name = link.alias.partition(":")
                if owner == self._owner and name not in (*_MARKS, *wanted):
                    self._veths.cut(link.index)
            if network_ids is not None:
                for network_id in self._networks.keys() - set(network_ids):
                    self.remove_network(network_id)
            self._rules.write()
            self._finish()

    def close(self) -> None:
        """Let go of namespaces in stock and of reserved ports; networks, endpoints, rules stay."""
        with self._lock:
            self._veths.close()
            self._names.close()
            self._rules.close()
            for endpoint in self._endpoints.made.values():
                self._publishing.end(endpoint)
            self._endpoints.made.clear()
            self._host.close()

    def _finish(self) -> None:
        """Do now what nobody would do later."""
        if not self._defers:
            self.chores.finish()

    # --- details -----------------------------------------------------------------------------

    def _present(self) -> tuple[list[BridgeSpec], list[Made]]:
        bridges = [it for it in self._networks.values() if isinstance(it, BridgeSpec)]
        return bridges, list(self._endpoints.made.values())

    def _driver(self, network: NetworkSpec) -> Driver[Any]:
        return self._drivers[type(network)]

    def _adopt(self) -> None:
        """Take over what a predecessor left, and remove what it has left half-made."""
        if self._state.is_kept:
            ids = {record.endpoint.endpoint_id for record in self._state.endpoints()}
            named = {_place(network)[1] for network in self._networks.values()}
            leftovers.clear(
                self._host,
                self._owner,
                interfaces=named | self._plugs.interfaces,
                endpoints=ids | {plug.plug_id for plug in self._plugs.all()},
            )
        self._endpoints.adopt(self._owner)
        if self._networks:
            try:
                self._rules.write()  # so that the firewall knows what there is
            except SampanError as error:
                log.warning("published ports may not answer: %s", error)


def _place(network: NetworkSpec) -> tuple[type[NetworkSpec], str]:
    """Return what cannot change of a network without its being made anew."""
    name = network.name if isinstance(network, BridgeSpec) else parents.name_of(network)
    return type(network), name
