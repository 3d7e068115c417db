"""The bridge driver: an Ethernet bridge on the host, with the gateway's address."""

from __future__ import annotations

import logging
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Final

from sampan.errors import Conflict, Unsupported
from sampan.network.ipam import mac_of
from sampan.network.netlink import (
    NetlinkSocket,
    add_address,
    add_bridge,
    delete_address,
    no_link_local,
    set_link,
)
from sampan.network.plumber import BridgeSpec
from sampan.network.sandbox import quietly_write_sysctl, read_sysctl, write_sysctl
from sampan.network.state import Forwarding

log = logging.getLogger(__name__)
LINK_LOCAL: Final = IPv6Interface("fe80::1/64")  # of every bridge with IPv6, as in Docker
BORN_MTU: Final = 1500  # of a new veth


def ensure(host: NetlinkSocket, bridge: BridgeSpec, alias: str) -> tuple[int, int]:
    """Make or repair the interface, and return its index and MTU.

    `alias` marks what is ours; Conflict if the name belongs to something else.
    """
    if bridge.foreign:
        return _ensure_foreign(host, bridge)
    link = host.link(bridge.name)
    if link is None:
        host.request(add_bridge(bridge.name, mac_of(IPv4Address(bridge.gateway))))
        log.info("bridge %s made for network %s", bridge.name, bridge.network_id[:12])
        link = host.link(bridge.name)
    if link is None or link.kind != "bridge":
        raise Conflict(f"existing interface {bridge.name} is not a bridge")
    present = [address for index, address in host.addresses() if index == link.index]
    # Without mark and address it is one that we made and were killed before we could mark it.
    if link.alias != alias and (link.alias or present):
        raise Conflict(f"existing bridge {bridge.name} belongs to somebody else")
    host.attempt(no_link_local(link.index), set_link(link.index, alias=alias))
    wanted = IPv4Interface(f"{bridge.gateway}/{IPv4Network(bridge.subnet).prefixlen}")
    mtu = bridge.mtu or uplink_mtu(host) or BORN_MTU
    requests = [delete_address(link.index, other) for other in present if other != wanted]
    if wanted not in present:
        requests.append(add_address(link.index, wanted))
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


def _set_ipv6(host: NetlinkSocket, bridge: BridgeSpec, index: int) -> None:
    """Give the bridge its IPv6 address, and fe80::1, or take away what it had."""
    wanted: list[IPv6Interface] = []
    if bridge.subnet6:
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


def foreign(host: NetlinkSocket, name: str, alias: str) -> list[str] | None:
    """Return the IPv4 addresses of a bridge that has not our alias; None if there is none."""
    link = host.link(name)
    if link is None or link.kind != "bridge" or link.alias == alias:
        return None
    return [str(address) for index, address in host.addresses() if index == link.index]


def _ensure_foreign(host: NetlinkSocket, bridge: BridgeSpec) -> tuple[int, int]:
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


def uplink_mtu(host: NetlinkSocket) -> int:
    """Return the MTU of the interface that has the default route; 0 if there is none."""
    defaults = [route for route in host.routes() if not route.destination.prefixlen]
    if not defaults:
        return 0
    index = min(defaults, key=lambda route: route.metric).index
    return next((link.mtu for link in host.links() if link.index == index), 0)


def switch_forwarding_on(
    host: NetlinkSocket, own: Collection[str], *, ipv6: bool = False
) -> Forwarding | None:
    """Have the host forward packets of IPv4, or of IPv6.

    If it did not until now, return the interfaces between which it should still not: all that
    have addresses and are not `own`. None if it did, or there are none.
    """
    path = "ipv6/conf/all/forwarding" if ipv6 else "ipv4/ip_forward"
    if read_sysctl(path) == "1":
        return None
    names = {link.index: link.name for link in host.links()}
    indexes = {index for index, address in host.addresses()}
    if ipv6:
        indexes = {index for index, address in host.addresses6() if not address.is_link_local}
        _keep_routers(names.values())
    used = sorted({names.get(index, "") for index in indexes} - {"", "lo", *own})
    write_sysctl(path, "1")
    log.info("forwarding of IPv%d packets switched on", 6 if ipv6 else 4)
    if not used:
        return None
    return Forwarding(uplinks6=used) if ipv6 else Forwarding(uplinks=used)


def _keep_routers(interfaces: Collection[str]) -> None:
    """Let the host go on to listen to routers, from which it may have its addresses and routes.

    One that forwards does so only with accept_ra=2. Source: linux ip-sysctl.rst.
    """
    for name in interfaces:
        if read_sysctl(f"ipv6/conf/{name}/accept_ra") == "1":
            quietly_write_sysctl(f"ipv6/conf/{name}/accept_ra", "2")
