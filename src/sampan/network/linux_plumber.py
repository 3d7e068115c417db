"""The Plumber on the kernel: netlink and nftables, no program is ever executed."""

from __future__ import annotations

import dataclasses
import logging
from collections import ChainMap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

import msgspec

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
from sampan.network.firewall.firewall import Firewall
from sampan.network.firewall.nftables import Nftables
from sampan.network.forwarding import forward_packets
from sampan.network.interface import set_routes
from sampan.network.made import Made
from sampan.network.netlink import NetlinkSocket, set_port
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
from sampan.network.publishing import Publishing
from sampan.network.reservation import key_of
from sampan.network.resolver.names import RESOLV_CONF, Names
from sampan.network.rulebook import Rulebook
from sampan.network.sandbox import POOL_SIZE, Sandbox, Wired, raise_loopback
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
        self._host = NetlinkSocket()
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
        self._endpoints: dict[str, Made] = {}
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
            for endpoint in list(self._endpoints.values()):
                if endpoint.spec.network_id == network_id:
                    self._detach(endpoint)
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
            with ExitStack() as undo:
                driver = self._driver(network)
                wired = self._wire(endpoint, network, sandbox)
                undo.callback(wired.sandbox.close)
                if sandbox:
                    raise_loopback(wired.sandbox)
                made = Made(endpoint, wired.outer, inner=0 if wired.outer else wired.inner)
                undo.callback(driver.detach, made, Fd(wired.sandbox.namespace))
                self._state.keep(made.record)
                self._endpoints[endpoint.endpoint_id] = made
                self._names.attached(endpoint, network)
                undo.pop_all()
            return Fd(wired.sandbox.detach())

    def _wire(self, endpoint: EndpointSpec, network: NetworkSpec, sandbox: Fd | None) -> Wired:
        try:
            return self._driver(network).attach(endpoint, network, sandbox)
        except Internal:
            if not isinstance(network, BridgeSpec):
                raise
            known = [
                it for it in self._endpoints.values() if it.spec.network_id == endpoint.network_id
            ]
            if not self._bridges.restore(network, [it.outer for it in known if it.outer]):
                raise
            self.ensure_network(network)
            return self._bridges.attach(endpoint, network, sandbox)

    def detach(self, endpoint_id: str, sandbox: Fd | None = None) -> None:
        """Remove an endpoint, its interface and its published ports."""
        with self._lock:
            if endpoint := self._endpoints.get(endpoint_id):
                self._detach(endpoint, sandbox)
            self._finish()

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints, those of a predecessor as well."""
        with self._lock:
            return [endpoint.record for endpoint in self._endpoints.values()]

    def publish(self, endpoint_id: str, ports: list[PortMapping]) -> list[PortMapping]:
        """Publish all ports or none, and return them with host ports filled in."""
        for port in ports:
            check_port(port)
        with self._known(endpoint_id) as endpoint:
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
                self._endpoints[endpoint_id] = after
                self._publishing.begin(endpoint.spec, taken)
                undo.pop_all()
            return [port.mapping for port in taken]

    def unpublish(self, endpoint_id: str, ports: list[PortMapping]) -> None:
        """Take published ports back; those that are not published are no error."""
        with self._known(endpoint_id) as endpoint:
            wanted = {key_of(it) for it in ports}
            gone = [it for it in endpoint.ports if it.key in wanted]
            former = Made(endpoint.spec, 0, gone)
            self._publishing.withdraw(former)
            endpoint.ports = [it for it in endpoint.ports if it not in gone]
            self._state.keep(endpoint.record)
            self._publishing.end(former)

    def link(self, endpoint_id: str, peers: list[Peer]) -> None:
        """Let an endpoint reach these ports of its network, and no others as before."""
        for peer in peers:
            check_peer(peer)
        with self._known(endpoint_id) as endpoint:
            if endpoint.peers != peers:
                endpoint.peers = peers
                self._state.keep(endpoint.record)
                self._rules.write()

    def route(self, endpoint_id: str, gateway: str, gateway6: str, sandbox: Fd) -> None:
        """Have the default routes lead to gateways of an endpoint's network; "": no longer."""
        with self._known(endpoint_id) as endpoint:
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

    def resolve(self, resolver: ResolverSpec, sandbox: Fd) -> None:
        """Answer DNS at 127.0.0.11 in a namespace: names on the networks of a container."""
        check_resolver(resolver)
        with self._lock:
            owners = {made.spec.container_id for made in self._endpoints.values()}
            if resolver.container_id not in owners:
                raise NotFound(f"container {resolver.container_id} is on no network")
            self._state.keep(resolver)
            self._names.resolve(resolver, sandbox.number)

    def rename(self, endpoint_id: str, names: list[str]) -> None:
        """Have an endpoint found by other names."""
        check_names(names)
        with self._known(endpoint_id) as endpoint:
            endpoint.spec = msgspec.structs.replace(endpoint.spec, names=names)
            self._state.keep(endpoint.record)
            self._names.renamed(endpoint.spec)

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
            for known, endpoint in list(self._endpoints.items()):
                if known not in wanted:
                    self._detach(endpoint)
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
            for endpoint in self._endpoints.values():
                self._publishing.end(endpoint)
            self._endpoints.clear()
            self._host.close()

    def _finish(self) -> None:
        """Do now what nobody would do later."""
        if not self._defers:
            self.chores.finish()

    # --- details -----------------------------------------------------------------------------

    @contextmanager
    def _known(self, endpoint_id: str) -> Iterator[Made]:
        """Lend an endpoint; NotFound if there is none."""
        with self._lock:
            if not (endpoint := self._endpoints.get(endpoint_id)):
                raise NotFound(f"endpoint {endpoint_id} not found")
            yield endpoint

    def _present(self) -> tuple[list[BridgeSpec], list[Made]]:
        bridges = [it for it in self._networks.values() if isinstance(it, BridgeSpec)]
        return bridges, list(self._endpoints.values())

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
        outer = {link.alias: link.index for link in self._host.links() if link.alias}
        for record in self._state.endpoints():
            name = record.endpoint.endpoint_id
            index = outer.get(f"{self._owner}:{name}", 0)
            if not index and not record.inner:  # it was being removed, or ended with its container
                self._state.forget("endpoints", name)
                continue
            ports = self._publishing.retake(record.ports)
            self._endpoints[name] = Made(record.endpoint, index, ports, record.peers, record.inner)
            self._publishing.begin(record.endpoint, ports)
        self._adopt_names()
        if self._networks:
            try:
                self._rules.write()  # so that the firewall knows what there is
            except SampanError as error:
                log.warning("published ports may not answer: %s", error)

    def _adopt_names(self) -> None:
        placed = [
            (made.spec, self._networks[made.spec.network_id])
            for made in self._endpoints.values()
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

    def _detach(self, endpoint: Made, sandbox: Fd | None = None) -> None:
        del self._endpoints[endpoint.spec.endpoint_id]
        try:
            self._publishing.withdraw(endpoint)
        finally:
            self._publishing.end(endpoint)
            if network := self._networks.get(endpoint.spec.network_id):
                self._driver(network).detach(endpoint, sandbox)
            else:
                self._veths.cut(endpoint.outer)
            self._unlink(endpoint)
            self._state.forget("endpoints", endpoint.spec.endpoint_id)
            if container_id := self._names.detached(endpoint.spec.endpoint_id):
                self._state.forget("resolvers", container_id)

    def _unlink(self, gone: Made) -> None:
        """Let nobody reach by a link whoever gets the address next, nor them anybody."""
        linked = [made for made in self._endpoints.values() if made.forget(gone)]
        for made in linked:
            self._state.keep(made.record)
        if linked or gone.peers:
            self._rules.write()


def _place(network: NetworkSpec) -> tuple[type[NetworkSpec], str]:
    """Return what cannot change of a network without its being made anew."""
    name = network.name if isinstance(network, BridgeSpec) else parents.name_of(network)
    return type(network), name
