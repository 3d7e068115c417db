"""That the host forwards packets, and between which interfaces it still should not."""

from __future__ import annotations

import logging
from collections.abc import Collection

from sampan.network.netlink import NetlinkSocket
from sampan.network.plumber import BridgeSpec
from sampan.network.sandbox import quietly_write_sysctl, read_sysctl, write_sysctl
from sampan.network.state import Forwarding

log = logging.getLogger(__name__)


def forward_packets(
    host: NetlinkSocket, bridge: BridgeSpec, others: Collection[BridgeSpec], known: Forwarding
) -> Forwarding | None:
    """Have the host forward for a bridge; return what is to be remembered, None if nothing is new.

    Raises OSError.
    """
    if not bridge.forwarding:
        return None
    own = [bridge.name, *(other.name for other in others)]
    four = switch_forwarding_on(host, own)
    six = switch_forwarding_on(host, own, ipv6=True) if bridge.subnet6 else None
    if not four and not six:
        return None
    return Forwarding(
        uplinks=four.uplinks if four else known.uplinks,
        uplinks6=six.uplinks6 if six else known.uplinks6,
    )


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
