"""A socket of the routing family, which also tells what links, addresses and routes there are."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from typing import Self

from sampan.network.netlink.protocol import (
    NETLINK_ROUTE,
    Message,
    NetlinkSocket,
    attributes,
    string,
)
from sampan.network.netlink.rtnetlink import (
    ADDRESS,
    IFA_ADDRESS,
    IFA_LOCAL,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    LINK,
    ROUTE,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PRIORITY,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTN_UNICAST,
    link_head,
    named,
)


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
        _, _, index, flags, _ = LINK.unpack_from(body)
        found = attributes(memoryview(body)[LINK.size :])
        info = attributes(found.get(IFLA_LINKINFO, b""))
        return cls(
            index=index,
            name=string(found.get(IFLA_IFNAME)),
            kind=string(info.get(IFLA_INFO_KIND)),
            alias=string(found.get(IFLA_IFALIAS)),
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

    @classmethod
    def parse(cls, body: bytes) -> Self | None:
        """Read the body of RTM_NEWROUTE; None for a route of another table or kind."""
        _, length, _, _, table, _, _, kind, _ = ROUTE.unpack_from(body)
        if table != RT_TABLE_MAIN or kind != RTN_UNICAST:
            return None
        values = attributes(memoryview(body)[ROUTE.size :])
        gateway = values.get(RTA_GATEWAY)
        return cls(
            IPv4Network((values.get(RTA_DST, bytes(4)), length)),
            int.from_bytes(values.get(RTA_OIF, b""), "little"),
            IPv4Address(gateway) if gateway else None,
            int.from_bytes(values.get(RTA_PRIORITY, b""), "little"),
        )


class RouteSocket(NetlinkSocket):
    """A socket for links, addresses and routes of the network namespace where it was made."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)

    def link(self, name: str) -> Link | None:
        """Return the interface of that name; None if there is none."""
        try:
            return Link.parse(self.ask(Message(RTM_GETLINK, named(name))))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def links(self) -> list[Link]:
        """Return the interfaces of this namespace."""
        return [Link.parse(body) for body in self.dump(Message(RTM_GETLINK, link_head(0)))]

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """Return (interface index, address) of all IPv4 addresses."""
        return [
            (index, IPv4Interface((packed, prefix)))
            for index, prefix, values in self._addresses(socket.AF_INET)
            if (packed := values.get(IFA_LOCAL) or values.get(IFA_ADDRESS))
        ]

    def addresses6(self) -> list[tuple[int, IPv6Interface]]:
        """Return (interface index, address) of all IPv6 addresses."""
        return [
            (index, IPv6Interface((packed, prefix)))
            for index, prefix, values in self._addresses(socket.AF_INET6)
            if (packed := values.get(IFA_ADDRESS))
        ]

    def _addresses(self, family: int) -> Iterator[tuple[int, int, dict[int, bytes]]]:
        """Yield (interface index, prefix length, attributes)."""
        for body in self.dump(Message(RTM_GETADDR, ADDRESS.pack(family, 0, 0, 0, 0))):
            _, prefix, _, _, index = ADDRESS.unpack_from(body)
            yield index, prefix, attributes(memoryview(body)[ADDRESS.size :])

    def routes(self) -> list[Route]:
        """Return the unicast IPv4 routes of the main table."""
        head = ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        found = (Route.parse(body) for body in self.dump(Message(RTM_GETROUTE, head)))
        return [route for route in found if route]
