"""Connection tracking entries of UDP that would send packets where a port led before.

A client that never pauses keeps its entry alive: published anew, the port would stay deaf to it,
and taken away, its packets would go to whoever gets the address next. Source: linux/netfilter/
nfnetlink_conntrack.h.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from sampan.network.netlink.protocol import (
    NETLINK_NETFILTER,
    Message,
    NetlinkSocket,
    attributes,
    nested,
)

log = logging.getLogger(__name__)

_SUBSYSTEM: Final = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2  # IPCTNL_MSG_CT_*
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY = 1, 2
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V6_SRC, CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3, 1, 3
_HEADS: Final = [struct.pack("=BBH", it, 0, 0) for it in (socket.AF_INET, socket.AF_INET6)]


def forget_udp(
    addresses: Collection[IPv4Address | IPv6Address], host_ports: Collection[int]
) -> int:
    """Delete entries that lead to `addresses` or were made for `host_ports`; return how many."""
    packed = {address.packed for address in addresses}
    count = 0
    with NetlinkSocket(NETLINK_NETFILTER) as conntrack:
        for head in _HEADS:
            stale = []
            for body in conntrack.dump(Message(_GET, head)):  # nfgenmsg, attributes
                found = attributes(memoryview(body)[len(head) :])
                original = found.get(CTA_TUPLE_ORIG, b"")
                protocol, _, port = _tuple(original)
                if protocol != socket.IPPROTO_UDP:
                    continue
                if port in host_ports or _tuple(found.get(CTA_TUPLE_REPLY, b""))[1] in packed:
                    stale.append(Message(_DELETE, head + nested(CTA_TUPLE_ORIG, original)))
            for message in stale:
                [error] = conntrack.attempt(message)
                count += error is None
    return count


def _tuple(data: bytes) -> tuple[int, bytes, int]:
    """Return protocol, packed source address and destination port of a tuple."""
    parts = attributes(data)
    proto = attributes(parts.get(CTA_TUPLE_PROTO, b""))
    pair = attributes(parts.get(CTA_TUPLE_IP, b""))
    source = pair.get(CTA_IP_V4_SRC) or pair.get(CTA_IP_V6_SRC, b"")
    number = int.from_bytes(proto.get(CTA_PROTO_NUM, b""), "big")
    return number, source, int.from_bytes(proto.get(CTA_PROTO_DST_PORT, b""), "big")
