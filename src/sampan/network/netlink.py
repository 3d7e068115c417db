"""A small rtnetlink: links, addresses and routes, without running a program.

Several requests go to the kernel in one packet, so that an interface is set up in two system
calls. Figures and the reasons for not using a library: docs/decisions/004-own-netlink.md.
Source: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h; rtnetlink(7).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    ip_network,
)
from typing import Final, Self

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_EXT_ACK: Final = 11
NETLINK_CAP_ACK: Final = 10

NLM_F_REQUEST, NLM_F_ACK = 0x01, 0x04
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_ACK_TLVS: Final = 0x200
NLMSGERR_ATTR_MSG: Final = 1

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
NLA_F_NESTED, NLA_TYPE_MASK = 1 << 15, 0x3FFF

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, dst and src length, tos, table, protocol …
_RECEIVE_BYTES: Final = 64 << 10


# --- building --------------------------------------------------------------------------------


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute with its padding."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def u16(kind: int, value: int) -> bytes:
    """Return a 16-bit attribute."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """Return a 32-bit attribute."""
    return _ATTRIBUTE.pack(8, kind) + struct.pack("=I", value)


def text(kind: int, value: str) -> bytes:
    """Return a string attribute, with the zero byte that the kernel wants."""
    return attribute(kind, value.encode() + b"\0")


@dataclass(frozen=True, slots=True)
class Message:
    """A request without its header."""

    type: int
    body: bytes
    flags: int = 0


def _link(index: int, flags: int = 0, change: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, flags, change)


def _mac(address: str) -> bytes:
    return attribute(IFLA_ADDRESS, bytes.fromhex(address.replace(":", "")))


def _named(name: str) -> bytes:
    return _link(0) + text(IFLA_IFNAME, name)


def add_bridge(name: str, mac: str = "") -> Message:
    """Make a bridge; with a MAC address it is fixed, else it follows that of its ports."""
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    body = _named(name) + (_mac(mac) if mac else b"") + info
    return Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)


def add_veth(name: str, peer: str, peer_namespace: int, *, namespace: int = -1) -> Message:
    """Make a pair of interfaces: `name` here, `peer` in the namespace of a descriptor.

    With `namespace` the first is in another one, too.
    """
    other = _named(peer) + u32(IFLA_NET_NS_FD, peer_namespace)
    data = nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, other))
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), data)
    body = _named(name) + info
    body += u32(IFLA_NET_NS_FD, namespace) if namespace >= 0 else b""
    return Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)


def add_upper(
    parent: int, name: str, kind: str, data: bytes, *, namespace: int = -1, mac: str = ""
) -> Message:
    """Make an interface on top of another: macvlan, ipvlan, vlan; in the namespace of a descriptor.

    `data` is what this kind of interface is told.
    """
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind), nested(IFLA_INFO_DATA, data))
    body = _named(name) + u32(IFLA_LINK, parent) + info
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
    body = _link(index, IFF_UP if up else 0, 0 if up is None else IFF_UP)
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
    return Message(RTM_NEWLINK, _link(index) + nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode)))


def set_port(index: int, *, isolated: bool | None = None, hairpin: bool | None = None) -> Message:
    """Change a bridge's port: `isolated` ports do not reach one another, `hairpin` sends back."""
    data = b""
    if isolated is not None:
        data += attribute(IFLA_BRPORT_ISOLATED, bytes([isolated]))
    if hairpin is not None:
        data += attribute(IFLA_BRPORT_MODE, bytes([hairpin]))
    kind = text(IFLA_INFO_SLAVE_KIND, "bridge")
    info = nested(IFLA_LINKINFO, kind, nested(IFLA_INFO_SLAVE_DATA, data))
    return Message(RTM_NEWLINK, _link(index) + info)


def delete_link(index: int) -> Message:
    """Remove an interface (and the other end of a pair)."""
    return Message(RTM_DELLINK, _link(index))


def _address(type: int, index: int, address: IPv4Interface | IPv6Interface, flags: int) -> Message:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # Without duplicate address detection: it would take a second, and we know who has what.
    nodad = IFA_F_NODAD if address.version == 6 else 0
    head = _ADDRESS.pack(family, address.network.prefixlen, nodad, RT_SCOPE_UNIVERSE, index)
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
    head = _ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
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
    head = _ROUTE.pack(family, length, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
    body = head + attribute(RTA_DST, address.packed) + u32(RTA_OIF, index)
    return Message(RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_EXCL)


def delete_default_route(gateway: IPv4Address | IPv6Address, index: int) -> Message:
    """Take `add_default_route` back; ESRCH if it is not there."""
    return _default_route(RTM_DELROUTE, gateway, index, 0)


# --- reading ---------------------------------------------------------------------------------


def attributes(data: bytes | memoryview) -> dict[int, bytes]:
    """Return the attributes in `data` by kind."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = bytes(data[at + 4 : at + length])
        at += (length + 3) & ~3
    return found


def _string(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Link:
    """An interface."""

    index: int
    name: str
    kind: str  # bridge, veth …; "" for hardware and lo
    alias: str
    mac: str
    mtu: int
    master: int
    up: bool

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body of RTM_NEWLINK."""
        _, _, index, flags, _ = _LINK.unpack_from(body)
        found = attributes(memoryview(body)[_LINK.size :])
        info = attributes(found.get(IFLA_LINKINFO, b""))
        return cls(
            index=index,
            name=_string(found.get(IFLA_IFNAME)),
            kind=_string(info.get(IFLA_INFO_KIND)),
            alias=_string(found.get(IFLA_IFALIAS)),
            mac=found.get(IFLA_ADDRESS, b"").hex(":"),
            mtu=int.from_bytes(found.get(IFLA_MTU, b""), "little"),
            master=int.from_bytes(found.get(IFLA_MASTER, b""), "little"),
            up=bool(flags & IFF_UP),
        )


@dataclass(frozen=True, slots=True)
class Route:
    """An IPv4 route of the main table (or an address, which is a route as well)."""

    destination: IPv4Network
    index: int
    gateway: IPv4Address | None = None
    metric: int = 0


class NetlinkSocket:
    """A netlink socket in the network namespace where it was made, for one thread."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, *messages: Message) -> None:
        """Carry out the requests in order; raise OSError for the first that failed.

        The kernel goes on after a failure, so a later request of the same call may have worked.
        """
        failure: OSError | None = None
        for _, error in zip(messages, self._acknowledged(messages), strict=True):
            failure = failure or error
        if failure:
            raise failure

    def attempt(self, *messages: Message) -> list[OSError | None]:
        """Carry out the requests and return what each came to."""
        return list(self._acknowledged(messages))

    def _acknowledged(self, messages: tuple[Message, ...]) -> list[OSError | None]:
        first = self._sequence + 1
        packet = b""
        for message in messages:
            self._sequence += 1
            flags = NLM_F_REQUEST | NLM_F_ACK | message.flags
            length = _HEADER.size + len(message.body)
            packet += _HEADER.pack(length, message.type, flags, self._sequence, 0) + message.body
            packet += bytes(-length % 4)
        self._socket.send(packet)
        results: dict[int, OSError | None] = {}
        while len(results) < len(messages):
            for kind, flags, sequence, body in self._receive():
                if kind == NLMSG_ERROR and sequence >= first:
                    results[sequence] = _error(body, flags)
        return [results[sequence] for sequence in sorted(results)]

    def dump(self, message: Message) -> Iterator[bytes]:
        """Yield the bodies of what a dump request returns."""
        self._sequence += 1
        sequence = self._sequence
        flags = NLM_F_REQUEST | NLM_F_DUMP | message.flags
        length = _HEADER.size + len(message.body)
        self._socket.send(_HEADER.pack(length, message.type, flags, sequence, 0) + message.body)
        done = False
        while not done:
            for kind, flags, answers, body in self._receive():
                if answers != sequence:
                    continue
                if kind == NLMSG_DONE:
                    done = True
                elif kind == NLMSG_ERROR:
                    raise _error(body, flags) or OSError("an empty answer to a netlink dump")
                else:
                    yield body

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        packet = self._socket.recv(_RECEIVE_BYTES)
        found = []
        at = 0
        while at + _HEADER.size <= len(packet):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(packet, at)
            found.append((kind, flags, sequence, packet[at + _HEADER.size : at + length]))
            at += (max(length, _HEADER.size) + 3) & ~3
        return found

    def link(self, name: str) -> Link | None:
        """Return the interface of that name; None if there is none."""
        self._sequence += 1
        body = _named(name)
        length = _HEADER.size + len(body)
        head = _HEADER.pack(length, RTM_GETLINK, NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(head + body)
        while True:
            for kind, flags, answers, found in self._receive():
                if answers == self._sequence and kind == RTM_NEWLINK:
                    return Link.parse(found)
                if answers == self._sequence and kind == NLMSG_ERROR:
                    error = _error(found, flags)
                    if error is None or error.errno == errno.ENODEV:
                        return None
                    raise error

    def links(self) -> list[Link]:
        """Return the interfaces of this namespace."""
        return [Link.parse(body) for body in self.dump(Message(RTM_GETLINK, _link(0)))]

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """Return (interface index, address) of all IPv4 addresses."""
        head = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
        found = []
        for body in self.dump(Message(RTM_GETADDR, head)):
            _, prefix, _, _, index = _ADDRESS.unpack_from(body)
            values = attributes(memoryview(body)[_ADDRESS.size :])
            if packed := values.get(IFA_LOCAL) or values.get(IFA_ADDRESS):
                found.append((index, IPv4Interface((packed, prefix))))
        return found

    def addresses6(self) -> list[tuple[int, IPv6Interface]]:
        """Return (interface index, address) of all IPv6 addresses."""
        head = _ADDRESS.pack(socket.AF_INET6, 0, 0, 0, 0)
        found = []
        for body in self.dump(Message(RTM_GETADDR, head)):
            _, prefix, _, _, index = _ADDRESS.unpack_from(body)
            values = attributes(memoryview(body)[_ADDRESS.size :])
            if packed := values.get(IFA_ADDRESS):
                found.append((index, IPv6Interface((packed, prefix))))
        return found

    def routes(self) -> list[Route]:
        """Return the unicast IPv4 routes of the main table."""
        head = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        found = []
        for body in self.dump(Message(RTM_GETROUTE, head)):
            _, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
            if table != RT_TABLE_MAIN or kind != RTN_UNICAST:
                continue
            values = attributes(memoryview(body)[_ROUTE.size :])
            gateway = values.get(RTA_GATEWAY)
            destination = ip_network((values.get(RTA_DST, bytes(4)), length))
            if isinstance(destination, IPv4Network):
                found.append(
                    Route(
                        destination,
                        int.from_bytes(values.get(RTA_OIF, b""), "little"),
                        IPv4Address(gateway) if gateway else None,
                        int.from_bytes(values.get(RTA_PRIORITY, b""), "little"),
                    )
                )
        return found


def _error(body: bytes, flags: int) -> OSError | None:
    number = -int.from_bytes(body[:4], "little", signed=True)
    if not number:
        return None
    said = ""
    if flags & NLM_F_ACK_TLVS:  # NETLINK_CAP_ACK: only the header of the request is repeated
        said = _string(attributes(body[4 + _HEADER.size :]).get(NLMSGERR_ATTR_MSG))
    return OSError(number, said or os.strerror(number))
