"""The requests that change links, addresses and routes: those that networks of containers need.

Source: linux/rtnetlink.h, linux/if_link.h; rtnetlink(7).
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final

from sampan.network.netlink.protocol import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    attribute,
    nested,
    text,
    u32,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_AF_SPEC = 18, 20, 28, 26
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
VETH_INFO_PEER: Final = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_F_NODAD = 1, 2, 4, 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 4, 5, 6
RT_TABLE_MAIN, RTPROT_BOOT, RTPROT_STATIC = 254, 3, 4
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RTN_UNICAST = 0, 253, 1
IFF_UP: Final = 1

LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
ADDRESS: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, dst and src length, tos, table, protocol …


def link_head(index: int, flags: int = 0, change: int = 0) -> bytes:
    """Return the head of a request about an interface; 0: all, or the one that it names."""
    return LINK.pack(socket.AF_UNSPEC, 0, index, flags, change)


def _mac(address: str) -> bytes:
    return attribute(IFLA_ADDRESS, bytes.fromhex(address.replace(":", "")))


def named(name: str) -> bytes:
    """Return the head of a request about the interface of a name."""
    return link_head(0) + text(IFLA_IFNAME, name)


def add_bridge(name: str, mac: str = "") -> Message:
    """Make a bridge; with a MAC address it is fixed, else it follows that of its ports."""
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    body = named(name) + (_mac(mac) if mac else b"") + info
    return Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)


def add_veth(name: str, peer: str, peer_namespace: int, *, namespace: int = -1) -> Message:
    """Make a pair of interfaces: `name` here, `peer` in the namespace of a descriptor.

    With `namespace` the first is in another one, too.
    """
    other = named(peer) + u32(IFLA_NET_NS_FD, peer_namespace)
    data = nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, other))
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), data)
    body = named(name) + info
    body += u32(IFLA_NET_NS_FD, namespace) if namespace >= 0 else b""
    return Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)


def add_upper(
    parent: int, name: str, kind: str, data: bytes, *, namespace: int = -1, mac: str = ""
) -> Message:
    """Make an interface on top of another: macvlan, ipvlan, vlan; in the namespace of a descriptor.

    `data` is what this kind of interface is told.
    """
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind), nested(IFLA_INFO_DATA, data))
    body = named(name) + u32(IFLA_LINK, parent) + info
    body += _mac(mac) if mac else b""
    body += u32(IFLA_NET_NS_FD, namespace) if namespace >= 0 else b""
    return Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)


def set_link(
    index: int,
    *,
    up: bool | None = None,
    name: str = "",
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    alias: str | None = None,
    namespace: int = -1,
) -> Message:
    """Change an interface; what is not named stays. `master=0` takes it off its bridge."""
    body = link_head(index, IFF_UP if up else 0, 0 if up is None else IFF_UP)
    body += text(IFLA_IFNAME, name) if name else b""
    body += _mac(mac) if mac else b""
    body += u32(IFLA_MTU, mtu) if mtu else b""
    body += u32(IFLA_MASTER, master) if master is not None else b""
    body += attribute(IFLA_IFALIAS, alias.encode()) if alias is not None else b""
    body += u32(IFLA_NET_NS_FD, namespace) if namespace >= 0 else b""
    return Message(RTM_NEWLINK, body)


def mark_link(name: str, alias: str) -> Message:
    """Give an interface an alias by its name: one that a request of the same packet makes."""
    return set_link(0, name=name, alias=alias)


def no_link_local(index: int) -> Message:
    """Have the kernel make no fe80:: address: a mere port of a bridge needs none.

    Refused by the kernel in the request that makes the interface.
    """
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    return Message(
        RTM_NEWLINK, link_head(index) + nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode))
    )


def set_port(index: int, *, isolated: bool | None = None, hairpin: bool | None = None) -> Message:
    """Change a bridge's port: `isolated` ports do not reach one another, `hairpin` sends back."""
    data = b""
    if isolated is not None:
        data += attribute(IFLA_BRPORT_ISOLATED, bytes([isolated]))
    if hairpin is not None:
        data += attribute(IFLA_BRPORT_MODE, bytes([hairpin]))
    kind = text(IFLA_INFO_SLAVE_KIND, "bridge")
    info = nested(IFLA_LINKINFO, kind, nested(IFLA_INFO_SLAVE_DATA, data))
    return Message(RTM_NEWLINK, link_head(index) + info)


def delete_link(index: int) -> Message:
    """Remove an interface (and the other end of a pair)."""
    return Message(RTM_DELLINK, link_head(index))


def _address(type: int, index: int, address: IPv4Interface | IPv6Interface, flags: int) -> Message:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # Without duplicate address detection: it would take a second, and we know who has what.
    nodad = IFA_F_NODAD if address.version == 6 else 0
    head = ADDRESS.pack(family, address.network.prefixlen, nodad, RT_SCOPE_UNIVERSE, index)
    packed = address.ip.packed
    body = head + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if address.version == 4 and address.network.prefixlen < 31:
        body += attribute(IFA_BROADCAST, address.network.broadcast_address.packed)
    return Message(type, body, flags)


def add_address(index: int, address: IPv4Interface | IPv6Interface) -> Message:
    """Give an interface an address; no error if it has it."""
    return _address(RTM_NEWADDR, index, address, NLM_F_CREATE | NLM_F_REPLACE)


def delete_address(index: int, address: IPv4Interface | IPv6Interface) -> Message:
    """Take an address from an interface."""
    return _address(RTM_DELADDR, index, address, 0)


def _default_route(
    type: int, gateway: IPv4Address | IPv6Address, index: int, flags: int
) -> Message:
    family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
    # 0.0.0.0 and :: are no gateway: everything is as near as a neighbour.
    is_near = gateway.is_unspecified
    scope = RT_SCOPE_LINK if is_near and gateway.version == 4 else RT_SCOPE_UNIVERSE
    head = ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
    via = b"" if is_near else attribute(RTA_GATEWAY, gateway.packed)
    return Message(type, head + via + u32(RTA_OIF, index), flags)


def add_default_route(
    gateway: IPv4Address | IPv6Address, index: int, *, replace: bool = False
) -> Message:
    """Send what no other route wants to `gateway`; with `replace` also if another was there."""
    flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
    return _default_route(RTM_NEWROUTE, gateway, index, flags)


def add_host_route(address: IPv4Address | IPv6Address, index: int) -> Message:
    """Reach one address by an interface, without a gateway."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    scope = RT_SCOPE_LINK if address.version == 4 else RT_SCOPE_UNIVERSE
    length = address.max_prefixlen
    head = ROUTE.pack(family, length, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
    body = head + attribute(RTA_DST, address.packed) + u32(RTA_OIF, index)
    return Message(RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_EXCL)


def delete_default_route(gateway: IPv4Address | IPv6Address, index: int) -> Message:
    """Take `add_default_route` back; ESRCH if it is not there."""
    return _default_route(RTM_DELROUTE, gateway, index, 0)
