"""The Plumber on the kernel: netlink and nftables, no program is ever executed."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Interface, IPv4Network, ip_address, ip_interface
from pathlib import Path
from typing import Final

import msgspec

from sampan.errors import Internal, InvalidArgument, NotFound, SampanError, Unsupported
from sampan.network import conntrack
from sampan.network.checks import (
    check_bridge,
    check_endpoint,
    check_names,
    check_peer,
    check_port,
    check_resolver,
)
from sampan.network.drivers import bridge as bridge_driver
from sampan.network.firewall.failures import firewall_errors
from sampan.network.firewall.firewall import Firewall
from sampan.network.firewall.monitor import Monitor
from sampan.network.firewall.nftables import Nftables
from sampan.network.firewall.none import NoFirewall
from sampan.network.made import Made, Stale, rules_of
from sampan.network.netlink import (
    Message,
    NetlinkSocket,
    add_address,
    add_default_route,
    delete_link,
    set_link,
    set_port,
)
from sampan.network.plumber import (
    BridgeSpec,
    Endpoint,
    EndpointSpec,
    Peer,
    PortMapping,
    ResolverSpec,
)
from sampan.network.relay import Relays
from sampan.network.reservation import Reservation, Reservations
from sampan.network.resolver.names import RESOLV_CONF, Names
from sampan.network.routing import set_routes
from sampan.network.sandbox import INSIDE, POOL_SIZE, Pool, Sandbox, Wired, read_sysctl, wire
from sampan.network.state import Forwarding, State
from sampan.rpc import Fd

log = logging.getLogger(__name__)

_POOL, _BRIDGE = "pool", "bridge"  # marks of interfaces that are no endpoint's
_BRIDGE_FILTERED: Final = "bridge/bridge-nf-call-iptables"


class LinuxPlumber:
    """Does the work of the `Plumber` contract in the network namespace where it was made.

    `state` is a folder on a tmpfs that lets a successor find what this one made. `owner` is the
    name of the firewall table and the mark on interfaces. With `defers` the caller has a loop that
    calls `work` and `handle`: then namespaces are kept in stock, and IPv6 addresses of the host
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
        self._lock = threading.RLock()
        self._host = NetlinkSocket()
        self._pool = Pool(self._host, POOL_SIZE if defers else 0, f"{owner}:{_POOL}")
        self._defers = defers
        self._firewall = firewall or Nftables(owner)
        self._state = State(state)
        self._reservations = Reservations()
        self._relays = Relays()
        self._names = Names(state, resolv_conf)
        self._monitor = Monitor() if defers else None
        self._is_suspicious = False  # the firewall may have lost rules of ours
        self._stale = Stale()
        self._bridges = {bridge.network_id: bridge for bridge in self._state.bridges()}
        self._indexes: dict[str, tuple[int, int]] = {}  # network id → bridge's index, MTU
        self._endpoints: dict[str, Made] = {}
        self._dying: list[int] = []  # interfaces that were cut off, to be removed in time
        self._adopt()

    # --- bridges ---------------------------------------------------------------------------

    def ensure_bridge(self, bridge: BridgeSpec) -> None:
        """Make or repair a bridge with its address, forwarding and firewall rules."""
        check_bridge(bridge)
        with self._lock:
            before = self._bridges.get(bridge.network_id)
            if before and before.name != bridge.name:
                self.remove_bridge(bridge.network_id)
            try:
                self._indexes[bridge.network_id] = self._ensure(bridge)
                forwarding = self._switch_forwarding_on(bridge)
            except OSError as error:
                raise Internal(f"failed to set up bridge {bridge.name}: {error}") from error
            if forwarding:
                self._state.keep(forwarding)
            self._bridges[bridge.network_id] = bridge
            self._state.keep(bridge)
            self._write_rules()
            with firewall_errors():
                self._firewall.admit(bridge.name)
            if bridge.domain and self._defers:
                self._names.prepare()

    def remove_bridge(self, network_id: str) -> None:
        """Remove a bridge with its rules and endpoints; unknown ids are no error."""
        with self._lock:
            if not (bridge := self._bridges.pop(network_id, None)):
                return
            for endpoint in list(self._endpoints.values()):
                if endpoint.spec.network_id == network_id:
                    self._detach(endpoint)
            with firewall_errors():
                self._firewall.dismiss(bridge.name)
            if (link := self._host.link(bridge.name)) and link.alias == f"{self._owner}:{_BRIDGE}":
                self._host.request(delete_link(link.index))
            self._indexes.pop(network_id, None)
            self._state.forget("bridges", network_id)
            self._write_rules()
            if not any(other.domain for other in self._bridges.values()):
                self._names.release()

    def foreign_bridge(self, name: str) -> list[str] | None:
        """Return the IPv4 addresses of a bridge that is not ours; None if there is none."""
        with self._lock:
            return bridge_driver.foreign(self._host, name, f"{self._owner}:{_BRIDGE}")

    def free_subnet(self, pools: list[str], taken: list[str], own: str = "") -> str:
        """Return the first subnet of `pools` that no route, address or member of `taken` uses."""
        with self._lock:
            mine = _index(own)
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
            if not (bridge := self._bridges.get(endpoint.network_id)):
                raise NotFound(f"network {endpoint.network_id} not found")
            self.detach(endpoint.endpoint_id)
            with ExitStack() as undo:
                wired = self._wired(endpoint, sandbox)
                undo.callback(self._cut, wired.outer)
                undo.callback(wired.sandbox.close)
                try:
                    self._configure(wired, endpoint, bridge)
                except OSError as error:
                    reason = f"failed to set up interface {endpoint.interface}: {error}"
                    raise Internal(reason) from error
                made = Made(endpoint, wired.outer)
                self._state.keep(made.record)
                self._endpoints[endpoint.endpoint_id] = made
                self._names.attached(endpoint, bridge)
                undo.pop_all()
            return Fd(wired.sandbox.detach())

    def detach(self, endpoint_id: str) -> None:
        """Remove an endpoint, its interface and its published ports."""
        with self._lock:
            if endpoint := self._endpoints.get(endpoint_id):
                self._detach(endpoint)
            while not self._defers and self.has_work:
                self.work()

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints, those of a predecessor as well."""
        with self._lock:
            return [endpoint.record for endpoint in self._endpoints.values()]

    def publish(self, endpoint_id: str, ports: list[PortMapping]) -> list[PortMapping]:
        """Publish all ports or none, and return them with host ports filled in."""
        for port in ports:
            check_port(port)
        with self._lock:
            if not (endpoint := self._endpoints.get(endpoint_id)):
                raise NotFound(f"endpoint {endpoint_id} not found")
            with ExitStack() as undo:
                taken = self._reservations.take(ports)
                undo.callback(self._reservations.release, taken)
                held = endpoint.ports + taken
                after = Made(endpoint.spec, endpoint.outer, held, endpoint.peers)
                added = Made(endpoint.spec, endpoint.outer, taken).forwards
                with firewall_errors():
                    self._firewall.add(added)
                undo.callback(self._firewall.remove, added)
                # Where bridged packets pass through the firewall (br_netfilter), a container that
                # calls its own published port is sent back through the port it came from.
                if added and endpoint.outer:
                    self._host.attempt(set_port(endpoint.outer, hairpin=True))
                self._state.keep(after.record)
                self._endpoints[endpoint_id] = after
                self._begin(endpoint.spec, taken)
                undo.pop_all()
            return [port.mapping for port in taken]

    def unpublish(self, endpoint_id: str, ports: list[PortMapping]) -> None:
        """Take published ports back; those that are not published are no error."""
        with self._lock:
            if not (endpoint := self._endpoints.get(endpoint_id)):
                raise NotFound(f"endpoint {endpoint_id} not found")
            wanted = {(it.protocol, it.host_address, it.host_port) for it in ports}
            gone = [it for it in endpoint.ports if it.key in wanted]
            former = Made(endpoint.spec, 0, gone)
            with firewall_errors():
                self._firewall.remove(former.forwards)
            endpoint.ports = [it for it in endpoint.ports if it not in gone]
            self._state.keep(endpoint.record)
            self._end(former)

    def link(self, endpoint_id: str, peers: list[Peer]) -> None:
        """Let an endpoint reach these ports of its network, and no others as before."""
        for peer in peers:
            check_peer(peer)
        with self._lock:
            if not (endpoint := self._endpoints.get(endpoint_id)):
                raise NotFound(f"endpoint {endpoint_id} not found")
            if endpoint.peers != peers:
                endpoint.peers = peers
                self._state.keep(endpoint.record)
                self._write_rules()

    def route(self, endpoint_id: str, gateway: str, gateway6: str, sandbox: Fd) -> None:
        """Have the default routes lead to gateways of an endpoint's network; "": no longer."""
        with self._lock:
            if not (endpoint := self._endpoints.get(endpoint_id)):
                raise NotFound(f"endpoint {endpoint_id} not found")
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
        with self._lock:
            if not (endpoint := self._endpoints.get(endpoint_id)):
                raise NotFound(f"endpoint {endpoint_id} not found")
            endpoint.spec = msgspec.structs.replace(endpoint.spec, names=names)
            self._state.keep(endpoint.record)
            self._names.renamed(endpoint.spec)

    def reconcile(self, endpoint_ids: list[str], network_ids: list[str] | None = None) -> None:
        """Remove all endpoints, bridges and rules of ours that are not listed."""
        with self._lock:
            wanted = set(endpoint_ids)
            for known, endpoint in list(self._endpoints.items()):
                if known not in wanted:
                    self._detach(endpoint)
            for link in self._host.links():
                owner, _, name = link.alias.partition(":")
                if owner == self._owner and name not in (_POOL, _BRIDGE, *wanted):
                    self._cut(link.index)
            if network_ids is not None:
                for network_id in self._bridges.keys() - set(network_ids):
                    self.remove_bridge(network_id)
            self._write_rules()

    # --- work between calls ------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `work` has something to do."""
        stale = self._stale.addresses or self._stale.host_ports
        return self._is_short_of_stock or self._is_suspicious or bool(self._dying or stale)

    @property
    def _is_short_of_stock(self) -> bool:
        return bool(self._bridges) and self._pool.lacks

    @property
    def is_short(self) -> bool:
        """Whether the next `attach` would have to make a namespace first."""
        return self._is_short_of_stock and not len(self._pool)

    @property
    def has_surplus(self) -> bool:
        """Whether `shrink` may have something to do later."""
        return self._pool.has_surplus

    def work(self) -> None:
        """Do one piece of work that no caller waits for: some milliseconds."""
        with self._lock:
            if self._stale.addresses or self._stale.host_ports:
                self._forget_flows()
            elif self._is_suspicious:
                self._restore()
            elif self._is_short_of_stock:
                self._pool.refill()
            else:
                self._bury(1)

    def watched(self) -> list[int]:
        """Return descriptors to be handed to `handle` when they are readable."""
        news = self._monitor.watched() if self._monitor else []
        return [*news, *self._relays.watched(), *self._names.watched()]

    def handle(self, descriptor: int) -> None:
        """Do what a readable descriptor of `watched` is about."""
        with self._lock:
            if self._monitor and descriptor in self._monitor.watched():
                self._monitor.drain()
                self._is_suspicious = True
            self._relays.handle(descriptor)
            self._names.handle(descriptor)

    def shrink(self) -> None:
        """Let go of namespaces that only a burst of starts needed."""
        with self._lock:
            self._pool.shrink()

    def close(self) -> None:
        """Let go of namespaces in stock and of reserved ports; bridges, endpoints, rules stay."""
        with self._lock:
            self._pool.close()
            self._names.close()
            if self._monitor:
                self._monitor.close()
            for endpoint in self._endpoints.values():
                self._end(endpoint)
            self._endpoints.clear()
            self._host.close()

    # --- details -----------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Take over what a predecessor left."""
        outer = {link.alias: link.index for link in self._host.links() if link.alias}
        for record in self._state.endpoints():
            name = record.endpoint.endpoint_id
            ports = [self._reservations.retake(mapping) for mapping in record.ports]
            index = outer.get(f"{self._owner}:{name}", 0)
            self._endpoints[name] = Made(record.endpoint, index, ports, record.peers)
            self._begin(record.endpoint, ports)
        self._adopt_names()
        if self._bridges:
            try:
                self._write_rules()  # so that the firewall knows what there is
            except SampanError as error:
                log.warning("published ports may not answer: %s", error)

    def _adopt_names(self) -> None:
        placed = [
            (made.spec, self._bridges[made.spec.network_id])
            for made in self._endpoints.values()
            if made.spec.network_id in self._bridges
        ]
        try:
            self._names.adopt(placed, self._state.resolvers())
        except SampanError as error:
            log.warning("containers may not find one another by name: %s", error)

    def _wired(self, endpoint: EndpointSpec, sandbox: Fd | None) -> Wired:
        try:
            if sandbox is None:
                return self._pool.take()
            given = Sandbox.of(sandbox.number)
            try:
                try:
                    return self._wire(given, endpoint)
                except FileExistsError:  # perhaps one that was cut off a moment ago
                    self._bury()
                    return self._wire(given, endpoint)
            except BaseException:
                given.close()
                raise
        except OSError as error:
            raise Internal(f"failed to add interface {endpoint.interface}: {error}") from error

    def _wire(self, sandbox: Sandbox, endpoint: EndpointSpec) -> Wired:
        return wire(self._host, sandbox, endpoint.interface, self._pool.alias)

    def _configure(self, wired: Wired, endpoint: EndpointSpec, bridge: BridgeSpec) -> None:
        master, mtu = self._bridge_index(bridge)
        renamed = endpoint.interface if endpoint.interface != INSIDE else ""
        inner: list[Message] = [
            set_link(wired.inner, name=renamed, mac=endpoint.mac_address, mtu=mtu, up=True),
            *(
                add_address(wired.inner, ip_interface(address))
                for address in (endpoint.address, endpoint.address6, *endpoint.more_addresses)
                if address
            ),
            *(
                add_default_route(ip_address(gateway), wired.inner)
                for gateway in (endpoint.gateway, endpoint.gateway6)
                if gateway
            ),
        ]
        if endpoint.address6:
            wired.sandbox.switch_ipv6_on(wired.inner_name)
        wired.sandbox.request(*inner)
        alias = f"{self._owner}:{endpoint.endpoint_id}"
        outer = [set_link(wired.outer, master=master, mtu=mtu, up=True, alias=alias)]
        if not bridge.inter_container and read_sysctl(_BRIDGE_FILTERED) != "1":
            # Else the firewall sees bridged packets and tells the published ones apart.
            outer.append(set_port(wired.outer, isolated=True))
        self._host.request(*outer)

    def _bridge_index(self, bridge: BridgeSpec) -> tuple[int, int]:
        """Return the bridge's index, and its MTU if that is not the one interfaces are born with.

        Asked of the kernel once, by `ensure_bridge`.
        """
        if bridge.network_id not in self._indexes:
            self._indexes[bridge.network_id] = self._ensure(bridge)
        index, mtu = self._indexes[bridge.network_id]
        return index, mtu if mtu != bridge_driver.BORN_MTU else 0

    def _ensure(self, bridge: BridgeSpec) -> tuple[int, int]:
        return bridge_driver.ensure(self._host, bridge, f"{self._owner}:{_BRIDGE}")

    def _detach(self, endpoint: Made) -> None:
        del self._endpoints[endpoint.spec.endpoint_id]
        try:
            with firewall_errors():
                self._firewall.remove(endpoint.forwards)
        finally:
            self._end(endpoint)
            self._cut(endpoint.outer)
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
            self._write_rules()

    def _begin(self, endpoint: EndpointSpec, ports: Sequence[Reservation]) -> None:
        """Serve what is not the firewall's, and have old flows find their new way."""
        address = str(IPv4Interface(endpoint.address).ip)
        for port in ports:
            if port.socket and self._is_relayed(port) and self._defers:
                target = (address, port.mapping.container_port)
                self._relays.add(port.socket, port.mapping.protocol, target)
            if port.mapping.protocol == "udp":
                self._stale.host_ports.add(port.mapping.host_port)

    def _is_relayed(self, port: Reservation) -> bool:
        return ":" in port.mapping.host_address or isinstance(self._firewall, NoFirewall)

    def _end(self, endpoint: Made) -> None:
        for port in endpoint.ports:
            if port.socket:
                self._relays.remove(port.socket)
            if port.mapping.protocol == "udp":
                self._stale.addresses.update(endpoint.addresses)
        self._reservations.release(endpoint.ports)

    def _restore(self) -> None:
        """Write the rules anew if somebody has thrown them away: a reload of the firewall does."""
        self._is_suspicious = False
        try:
            if not self._firewall.is_intact():
                log.warning("the firewall has lost our rules: they are written anew")
                self._write_rules()
                for bridge in self._bridges.values():
                    self._firewall.admit(bridge.name)
        except (OSError, SampanError) as error:
            log.warning("the firewall's rules are not as they should be: %s", error)

    def _forget_flows(self) -> None:
        stale, self._stale = self._stale, Stale()
        try:
            conntrack.forget_udp(stale.addresses, stale.host_ports)
        except OSError as error:
            log.warning("UDP flows of former ports were not forgotten: %s", error)

    def _cut(self, outer: int) -> None:
        """Take an interface off its bridge; the rest of its removal may wait.

        Removing a pair costs 20 ms of waiting in the kernel, cutting it off half a millisecond,
        and nothing if the namespace has ended already.
        """
        if not outer:
            return
        [error] = self._host.attempt(set_link(outer, master=0, up=False, alias=""))
        if error is None:
            self._dying.append(outer)
        elif error.errno != errno.ENODEV:
            raise error

    def _bury(self, at_most: int = 1 << 30) -> None:
        """Remove interfaces that were cut off, where their namespaces have not ended by now."""
        while self._dying and at_most:
            self._host.attempt(delete_link(self._dying.pop()))
            at_most -= 1

    def _write_rules(self) -> None:
        forwarding = self._state.forwarding()
        if not self._bridges and not forwarding:
            with suppress(Unsupported), firewall_errors():  # without the library: no rules of ours
                self._firewall.clear()
            return
        rules = [rules_of(bridge) for bridge in self._bridges.values()]
        forwards = [
            forward for endpoint in self._endpoints.values() for forward in endpoint.forwards
        ]
        with firewall_errors():
            known = forwarding or Forwarding()
            pairs = [pair for endpoint in self._endpoints.values() for pair in endpoint.pairs]
            self._firewall.apply(rules, forwards, known.uplinks, known.uplinks6, pairs)

    def _switch_forwarding_on(self, bridge: BridgeSpec) -> Forwarding | None:
        """Return what is to be remembered of it; None if nothing has changed."""
        if not bridge.forwarding:
            return None
        known = self._state.forwarding() or Forwarding()
        own = self._bridge_names(bridge)
        four = bridge_driver.switch_forwarding_on(self._host, own)
        six = (
            bridge_driver.switch_forwarding_on(self._host, own, ipv6=True)
            if bridge.subnet6
            else None
        )
        if not four and not six:
            return None
        return Forwarding(
            uplinks=four.uplinks if four else known.uplinks,
            uplinks6=six.uplinks6 if six else known.uplinks6,
        )

    def _bridge_names(self, bridge: BridgeSpec) -> Sequence[str]:
        return [bridge.name, *(known.name for known in self._bridges.values())]


def _index(interface: str) -> int:
    """Return the index of an interface, 0 if there is none of that name."""
    try:
        return socket.if_nametoindex(interface) if interface else 0
    except OSError:
        return 0
