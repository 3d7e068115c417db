"""The bridge driver: an Ethernet bridge on the host, with the gateway's address."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Final

from sampan.errors import Conflict, Internal, Unsupported
from sampan.network.interface import configure
from sampan.network.ipam import mac_of
from sampan.network.made import Made
from sampan.network.netlink.protocol import Message
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import (
    add_address,
    add_bridge,
    delete_address,
    delete_link,
    mark_link,
    no_link_local,
    set_link,
    set_port,
)
from sampan.network.plumber import BridgeSpec, EndpointSpec
from sampan.network.sandbox import Wired, quietly_write_sysctl, read_sysctl, write_sysctl
from sampan.network.veths import Veths
from sampan.rpc import Fd

log = logging.getLogger(__name__)
LINK_LOCAL: Final = IPv6Interface("fe80::1/64")  # of every bridge with IPv6, as in Docker
BORN_MTU: Final = 1500  # of a new veth
MARK: Final = "bridge"  # in the alias, after the owner
_FILTERED: Final = "bridge/bridge-nf-call-iptables"


class BridgeDriver:
    """Networks that are bridges of the host, with a pair of interfaces for each endpoint."""

    def __init__(self, host: RouteSocket, veths: Veths, owner: str) -> None:
        self._host, self._veths, self._owner = host, veths, owner
        self._alias = f"{owner}:{MARK}"
        self._indexes: dict[str, tuple[int, int]] = {}  # network id → bridge's index, MTU

    def ensure(self, network: BridgeSpec) -> None:
        """Make or repair a bridge with its address."""
        try:
            self._indexes[network.network_id] = _ensure(self._host, network, self._alias)
        except OSError as error:
            raise Internal(f"failed to set up bridge {network.name}: {error}") from error

    def restore(self, network: BridgeSpec, ports: Sequence[int]) -> bool:
        """Make a bridge anew that somebody else has removed, with its ports; False: it is there."""
        known, link = self._indexes.get(network.network_id), self._host.link(network.name)
        if known is None or (link is not None and link.index == known[0]):
            return False
        log.warning("bridge %s was removed by somebody else, and is made anew", network.name)
        self.ensure(network)
        self._host.attempt(*(it for port in ports for it in self._join(port, network)))
        return True

    def remove(self, network: BridgeSpec) -> None:
        """Remove a bridge that is ours."""
        self._indexes.pop(network.network_id, None)
        if (link := self._host.link(network.name)) and link.alias == self._alias:
            self._host.request(delete_link(link.index))

    def foreign(self, name: str) -> list[str] | None:
        """Return the IPv4 addresses of a bridge that is not ours; None if there is none."""
        link = self._host.link(name)
        if link is None or link.kind != "bridge" or link.alias == self._alias:
            return None
        return [str(address) for index, address in self._host.addresses() if index == link.index]

    def attach(self, endpoint: EndpointSpec, network: BridgeSpec, sandbox: Fd | None) -> Wired:
        """Put an interface into a namespace, the other end of which is a port of the bridge."""
        with ExitStack() as undo:
            wired = self._veths.take(endpoint.interface, sandbox)
            undo.callback(self._veths.cut, wired.outer)
            undo.callback(wired.sandbox.close)
            try:
                self._connect(wired, endpoint, network)
            except OSError as error:
                reason = f"failed to set up interface {endpoint.interface}: {error}"
                raise Internal(reason) from error
            undo.pop_all()
        return wired

    def detach(self, made: Made, sandbox: Fd | None) -> None:
        """Take a port off its bridge."""
        self._veths.cut(made.outer)

    def _connect(self, wired: Wired, endpoint: EndpointSpec, bridge: BridgeSpec) -> None:
        if bridge.network_id not in self._indexes:  # asked of the kernel once
            self.ensure(bridge)
        _, mtu = self._indexes[bridge.network_id]
        configure(wired, endpoint, mtu if mtu != BORN_MTU else 0)
        alias = f"{self._owner}:{endpoint.endpoint_id}"
        self._host.request(*self._join(wired.outer, bridge, alias))

    def _join(self, outer: int, bridge: BridgeSpec, alias: str | None = None) -> list[Message]:
        """Return what makes an interface a port of a bridge; its alias may stay as it is."""
        master, mtu = self._indexes[bridge.network_id]
        mtu = mtu if mtu != BORN_MTU else 0
        messages = [set_link(outer, master=master, mtu=mtu, up=True, alias=alias)]
        if is_isolated(bridge):
            messages.append(set_port(outer, isolated=True))
        return messages


def is_isolated(bridge: BridgeSpec) -> bool:
    """Tell whether ports of a bridge are kept apart by the bridge itself.

    Else the firewall sees bridged packets and tells the published ones apart.
    """
    return not bridge.inter_container and read_sysctl(_FILTERED) != "1"


def _ensure(host: RouteSocket, bridge: BridgeSpec, alias: str) -> tuple[int, int]:
    """Make or repair the interface, and return its index and MTU.

    `alias` marks what is ours; Conflict if the name belongs to something else.
    """
    if bridge.foreign:
        return _ensure_foreign(host, bridge)
    link = host.link(bridge.name)
    if link is None:
        added = add_bridge(bridge.name, mac_of(IPv4Address(bridge.gateway)))
        host.request(added, mark_link(bridge.name, alias))
        log.info("bridge %s made for network %s", bridge.name, bridge.network_id[:12])
        link = host.link(bridge.name)
    if link is None or link.kind != "bridge":
        raise Conflict(f"existing interface {bridge.name} is not a bridge")
    present = [address for index, address in host.addresses() if index == link.index]
    # Without mark and address it is one that we made and were killed before we could mark it.
    if link.alias != alias and (link.alias or present):
        raise Conflict(f"existing bridge {bridge.name} belongs to somebody else")
    host.attempt(no_link_local(link.index), set_link(link.index, alias=alias))
    address = IPv4Interface(f"{bridge.gateway}/{IPv4Network(bridge.subnet).prefixlen}")
    wanted = [address] if bridge.mode != "isolated" else []
    mtu = bridge.mtu or uplink_mtu(host) or BORN_MTU
    requests = [delete_address(link.index, other) for other in present if other not in wanted]
    requests += [add_address(link.index, one) for one in wanted if one not in present]
    requests.append(set_link(link.index, mtu=mtu if link.mtu != mtu else 0, up=True))
    host.request(*requests)
    # So that ports published on 127.0.0.1 answer; the firewall's guard chain keeps containers
    # from abusing it.
    write_sysctl(f"ipv4/conf/{bridge.name}/route_localnet", "1")
    quietly_write_sysctl(f"ipv6/conf/{bridge.name}/accept_ra", "0")
    _set_isolation(bridge)
    _set_ipv6(host, bridge, link.index)
    return link.index, mtu


def _set_isolation(bridge: BridgeSpec) -> None:
    """Where ports of the bridge are isolated, have the host answer ARP for all of them.

    Then their packets come to the firewall, which lets linked containers through. Source: linux
    ip-sysctl.rst, proxy_arp_pvlan.
    """
    isolated = "0" if bridge.inter_container else "1"
    quietly_write_sysctl(f"ipv4/conf/{bridge.name}/proxy_arp_pvlan", isolated)
    if not bridge.inter_container:
        quietly_write_sysctl(f"ipv4/conf/{bridge.name}/send_redirects", "0")


def _set_ipv6(host: RouteSocket, bridge: BridgeSpec, index: int) -> None:
    """Give the bridge its IPv6 address, and fe80::1, or take away what it had."""
    wanted: list[IPv6Interface] = []
    if bridge.subnet6 and bridge.mode6 != "isolated":
        _switch_ipv6_on(bridge.name)
        length = IPv6Network(bridge.subnet6).prefixlen
        wanted = [IPv6Interface(f"{bridge.gateway6}/{length}"), LINK_LOCAL]
    present = [address for at, address in host.addresses6() if at == index]
    gone = [delete_address(index, other) for other in present if other not in wanted]
    requests = [*gone, *(add_address(index, one) for one in wanted if one not in present)]
    if requests:
        host.request(*requests)


def _switch_ipv6_on(interface: str) -> None:
    if read_sysctl(f"ipv6/conf/{interface}/disable_ipv6") == "":
        raise Unsupported("IPv6 is not available on this host")
    write_sysctl(f"ipv6/conf/{interface}/disable_ipv6", "0")


def _ensure_foreign(host: RouteSocket, bridge: BridgeSpec) -> tuple[int, int]:
    """Use a bridge of the administrator's; only an address is added, if it has none."""
    link = host.link(bridge.name)
    if link is None or link.kind != "bridge":
        raise Conflict(f"bridge {bridge.name} does not exist")
    wanted = IPv4Interface(f"{bridge.gateway}/{IPv4Network(bridge.subnet).prefixlen}")
    present = [address for index, address in host.addresses() if index == link.index]
    requests = [] if present else [add_address(link.index, wanted)]
    host.request(*requests, set_link(link.index, up=True))
    write_sysctl(f"ipv4/conf/{bridge.name}/route_localnet", "1")
    if bridge.subnet6:
        _switch_ipv6_on(bridge.name)
        wanted6 = IPv6Interface(f"{bridge.gateway6}/{IPv6Network(bridge.subnet6).prefixlen}")
        host.request(add_address(link.index, wanted6))
    return link.index, bridge.mtu or link.mtu


def uplink_mtu(host: RouteSocket) -> int:
    """Return the MTU of the interface that has the default route; 0 if there is none."""
    defaults = [route for route in host.routes() if not route.destination.prefixlen]
    if not defaults:
        return 0
    index = min(defaults, key=lambda route: route.metric).index
    return next((link.mtu for link in host.links() if link.index == index), 0)
