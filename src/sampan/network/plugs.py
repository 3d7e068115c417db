"""Interfaces that users plug into running containers: into bridges, onto cards, to one another.

What has to be there on the host is made with the first plug that needs it and goes with the last:
a bridge that did not exist, a card that was no port of it. Both carry our mark.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

import msgspec

from sampan.errors import Conflict, Internal, InvalidArgument
from sampan.network.checks import check_network, check_plug
from sampan.network.drivers.bridge import BORN_MTU, is_isolated
from sampan.network.drivers.macvlan import MacvlanDriver
from sampan.network.interface import configure_plugged
from sampan.network.netlink.route_socket import Link, RouteSocket
from sampan.network.netlink.rtnetlink import (
    add_bridge,
    add_veth,
    delete_link,
    mark_link,
    set_link,
    set_port,
)
from sampan.network.plumber import (
    BridgeSpec,
    IntoBridge,
    MacvlanSpec,
    NetworkSpec,
    OntoParent,
    PlugEnd,
    PlugSpec,
    ToPeer,
)
from sampan.network.sandbox import Sandbox, Wired, inside, quietly_write_sysctl
from sampan.network.state import Plugged, State
from sampan.network.veths import Veths
from sampan.rpc import Fd

log = logging.getLogger(__name__)

MARK: Final = "plug"  # in the alias of bridges that are ours, after the owner


@dataclass(frozen=True, slots=True)
class Host:
    """What plugs are made with: netlink, pairs of interfaces, macvlan, and the engine's networks.

    `laid` is where networks are noted that macvlan plugs are for the driver.
    """

    netlink: RouteSocket
    veths: Veths
    macvlan: MacvlanDriver
    networks: Mapping[str, NetworkSpec]
    laid: MutableMapping[str, NetworkSpec]


class Plugs:
    """All that is plugged."""

    def __init__(self, host: Host, state: State, owner: str) -> None:
        self._host, self._netlink, self._state, self._owner = host, host.netlink, state, owner
        self._alias = f"{owner}:{MARK}"
        # Of cards that we made ports: they are not ours, and are never removed.
        self._port_alias = f"{owner}-port"
        self._plugged = {it.plug.plug_id: it for it in self._kept()}
        for it in self._plugged.values():
            if isinstance(it.plug.into, OntoParent):
                host.laid[it.plug.plug_id] = _network(it.plug.plug_id, it.plug.into)

    def _kept(self) -> Iterator[Plugged]:
        """Yield what a predecessor has plugged, but for what it was killed in unplugging."""
        outer = {link.alias: link.index for link in self._netlink.links() if link.alias}
        for record in self._state.plugs():
            plug_id = record.plug.plug_id
            index = outer.get(f"{self._owner}:{plug_id}", 0)
            if record.outer and not index:
                self._state.forget("plugs", plug_id)
            else:
                record.outer = index
                yield record

    @property
    def interfaces(self) -> set[str]:
        """Return the names of interfaces of ours that plugs need."""
        bridges = {
            it.plug.into.name
            for it in self._plugged.values()
            if isinstance(it.plug.into, IntoBridge)
        }
        parents = {it.parent for it in self._host.laid.values() if isinstance(it, MacvlanSpec)}
        return bridges | parents

    def all(self) -> list[PlugSpec]:
        """Return what is plugged."""
        return [it.plug for it in self._plugged.values()]

    def plug(self, plug: PlugSpec, sandbox: Fd, peer: Fd | None) -> PlugSpec:
        """Put an interface into a namespace, or leave nothing; return its name in it."""
        check_plug(plug)
        if plug.plug_id in self._plugged:
            raise Conflict(f"{plug.plug_id} is plugged already")
        with ExitStack() as undo:
            box = undo.enter_context(_box(sandbox))
            plug = msgspec.structs.replace(plug, end=_named(plug.end, box))
            match plug.into:
                case IntoBridge():
                    made = self._into_bridge(plug, plug.into, box, sandbox)
                case OntoParent():
                    made = self._onto_parent(plug, plug.into, box)
                case ToPeer():
                    if peer is None:
                        raise InvalidArgument("a pair of interfaces needs two containers")
                    other = undo.enter_context(_box(peer))
                    made = _pair(self._netlink, plug, plug.into, box, other)
            self._state.keep(made)
            self._plugged[plug.plug_id] = made
        log.info("%s plugged into container %s", made.plug.end.interface, plug.container_id[:12])
        return made.plug

    def unplug(self, plug_id: str, sandbox: Fd | None, peer: Fd | None) -> None:
        """Take it back; what ends with a namespace may stay until that ends."""
        if not (made := self._plugged.pop(plug_id, None)):
            return
        try:
            for given, index in ((sandbox, made.inner), (peer, made.peer)):
                if given and index:
                    with _box(given) as box, _may_be_gone():
                        box.request(delete_link(index))
            self._host.veths.cut(made.outer)
            if isinstance(made.plug.into, IntoBridge):
                self._release()
            if network := self._host.laid.pop(plug_id, None):
                self._host.macvlan.remove(network)  # type: ignore[arg-type]
        finally:
            self._state.forget("plugs", plug_id)

    def reconcile(self, wanted: Collection[str]) -> None:
        """Take back all that is not wanted, and what nobody remembers."""
        for plug_id in self._plugged.keys() - set(wanted):
            self.unplug(plug_id, None, None)
        self._release()

    # --- bridges -----------------------------------------------------------------------------

    def _into_bridge(self, plug: PlugSpec, into: IntoBridge, box: Sandbox, sandbox: Fd) -> Plugged:
        interface = plug.end.interface
        with ExitStack() as undo, _failing(interface):
            undo.callback(self._release)
            bridge = self._bridge(into)
            self._connect_port(into, bridge)
            wired = self._host.veths.take(interface, sandbox)
            undo.callback(_remove, box, interface)
            undo.callback(wired.sandbox.close)
            mtu = bridge.mtu if bridge.mtu != BORN_MTU else 0
            configure_plugged(wired, plug.end, mtu)
            alias = f"{self._owner}:{plug.plug_id}"
            self._netlink.request(
                set_link(wired.outer, master=bridge.index, mtu=mtu, up=True, alias=alias),
                *([set_port(wired.outer, isolated=True)] if self._keeps_apart(into) else []),
            )
            undo.pop_all()
            wired.sandbox.close()
        return Plugged(plug=plug, outer=wired.outer, inner=wired.inner)

    def _keeps_apart(self, into: IntoBridge) -> bool:
        """Tell whether the bridge is a network's whose containers do not reach one another."""
        bridges = [it for it in self._host.networks.values() if isinstance(it, BridgeSpec)]
        return any(it.name == into.name and is_isolated(it) for it in bridges)

    def _bridge(self, into: IntoBridge) -> Link:
        """Return a bridge, a new one if there is none of the name."""
        if self._netlink.link(into.name) is None:
            self._netlink.request(add_bridge(into.name), mark_link(into.name, self._alias))
        link = self._netlink.link(into.name)
        if link is None or link.kind != "bridge":
            raise Conflict(f"existing interface {into.name} is not a bridge")
        if link.alias == self._alias:
            self._netlink.request(set_link(link.index, up=True))
        return link

    def _connect_port(self, into: IntoBridge, bridge: Link) -> None:
        """Make a card of the host a port of the bridge, as `bridge_ports` does at the boot."""
        if not into.port:
            return
        if (link := self._netlink.link(into.port)) is None:
            raise InvalidArgument(f"there is no interface {into.port} on the host")
        if link.master == bridge.index:
            return
        if link.master or link.alias.partition(":")[0] == self._owner:
            raise Conflict(f"the interface {into.port} is in use by another bridge or network")
        addresses = [str(it) for index, it in self._netlink.addresses() if index == link.index]
        if addresses:
            raise Conflict(
                f"the interface {into.port} has the address {addresses[0]}: move it to the bridge "
                f"{into.name} first, or nobody reaches the host by it"
            )
        alias = None if link.alias else self._port_alias
        self._netlink.request(set_link(link.index, master=bridge.index, up=True, alias=alias))

    def _release(self) -> None:
        """Let go of bridges and ports with our mark that nothing is plugged into."""
        used = [it.plug.into for it in self._plugged.values()]
        names = {it.name for it in used if isinstance(it, IntoBridge)}
        ports = {it.port for it in used if isinstance(it, IntoBridge)}
        for link in self._netlink.links():
            with _may_be_gone():
                if link.alias == self._alias and link.name not in names:
                    self._netlink.request(delete_link(link.index))
                elif link.alias == self._port_alias and link.name not in ports:
                    self._netlink.request(set_link(link.index, master=0, alias=""))

    # --- the others --------------------------------------------------------------------------

    def _onto_parent(self, plug: PlugSpec, into: OntoParent, box: Sandbox) -> Plugged:
        network = _network(plug.plug_id, into)
        check_network(network)
        self._host.macvlan.ensure(network)
        self._host.laid[plug.plug_id] = network
        try:
            wired = self._host.macvlan.lay(box, plug.end, network)
        except BaseException:
            del self._host.laid[plug.plug_id]
            self._host.macvlan.remove(network)
            raise
        return Plugged(plug=plug, inner=wired.inner)


def _pair(host: RouteSocket, plug: PlugSpec, into: ToPeer, box: Sandbox, other: Sandbox) -> Plugged:
    """Connect two namespaces by a pair of interfaces."""
    here = plug.end
    there = _named(into.end, other)
    with ExitStack() as undo, _failing(here.interface):
        host.request(
            add_veth(here.interface, there.interface, other.namespace, namespace=box.namespace)
        )
        undo.callback(_remove, box, here.interface)
        ends = []
        for sandbox, end, beyond in ((box, here, there), (other, there, here)):
            if (link := sandbox.link(end.interface)) is None:
                raise OSError(errno.ENODEV, "gone", end.interface)
            with inside(sandbox.namespace):  # IPv4 alone, unless it gets more
                quietly_write_sysctl(f"ipv6/conf/{end.interface}/disable_ipv6", "1")
            wired = Wired(sandbox, 0, link.index, end.interface)
            configure_plugged(wired, end, near=beyond.addresses)
            ends.append(link.index)
        undo.pop_all()
    inner, peer = ends
    done = msgspec.structs.replace(plug, into=msgspec.structs.replace(into, end=there))
    return Plugged(plug=done, inner=inner, peer=peer)


def _network(plug_id: str, into: OntoParent) -> MacvlanSpec:
    """Return what a plug is for the macvlan driver."""
    return MacvlanSpec(
        network_id=plug_id, parent=into.parent, mode=into.mode, internal=not into.parent
    )


def _named(end: PlugEnd, box: Sandbox) -> PlugEnd:
    """Return an end with a name that is free."""
    if end.interface:
        if box.link(end.interface):
            raise Conflict(f"the container has an interface {end.interface} already")
        return end
    free = next(name for name in (f"eth{it}" for it in count()) if box.link(name) is None)
    return msgspec.structs.replace(end, interface=free)


@contextmanager
def _box(namespace: Fd) -> Iterator[Sandbox]:
    box = Sandbox.of(namespace.number)
    try:
        yield box
    finally:
        box.close()


@contextmanager
def _failing(interface: str) -> Iterator[None]:
    """Turn what the kernel says into errors of ours."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise Conflict(
                f"{interface} cannot be plugged: the container has a default route, or a route to "
                "this address, already"
            ) from error
        if error.errno == errno.ENETUNREACH:
            raise InvalidArgument(
                f"{interface} cannot be plugged: the gateway is in no subnet of its addresses"
            ) from error
        raise Internal(f"failed to plug {interface}: {error}") from error


@contextmanager
def _may_be_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _remove(box: Sandbox, interface: str) -> None:
    if link := box.link(interface):
        with _may_be_gone():
            box.request(delete_link(link.index))
