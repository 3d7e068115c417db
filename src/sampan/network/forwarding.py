"""That the host forwards packets, and between which interfaces it still should not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final

from msgspec.structs import replace

from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.plumber import BridgeSpec
from sampan.network.sandbox import quietly_write_sysctl, read_sysctl, write_sysctl
from sampan.network.state import Forwarding

log = logging.getLogger(__name__)
_IPV4: Final = "ipv4/ip_forward"
_IPV6: Final = "ipv6/conf/all/forwarding"


def forward_packets(
    host: RouteSocket,
    bridge: BridgeSpec,
    others: Collection[BridgeSpec],
    known: Forwarding,
    keep: Callable[[Forwarding], None],
) -> None:
    """Have the host forward for a bridge; raises OSError.

    If it did not until now, `keep` is told first between which interfaces it should still not: all
    that have addresses and are not ours. Who is killed after that has a successor who knows.
    """
    if not bridge.forwarding:
        return
    own = [bridge.name, *(other.name for other in others)]
    for path in (_IPV4, _IPV6) if bridge.subnet6 else (_IPV4,):
        if read_sysctl(path) == "1":
            continue
        used = _used(host, own, ipv6=path == _IPV6)
        if used:
            known = replace(known, **{"uplinks6" if path == _IPV6 else "uplinks": used})
            keep(known)
        write_sysctl(path, "1")
        log.info("forwarding of IPv%d packets switched on", 6 if path == _IPV6 else 4)


def forward_no_longer(noted: Forwarding) -> None:
    """Switch off what was off before us; the rules that made up for it may go after that."""
    for path, uplinks in ((_IPV4, noted.uplinks), (_IPV6, noted.uplinks6)):
        if uplinks and read_sysctl(path) == "1":
            write_sysctl(path, "0")
            log.info("forwarding of IPv%d packets switched off", 6 if path == _IPV6 else 4)


def _used(host: RouteSocket, own: Collection[str], *, ipv6: bool) -> list[str]:
    """Return the interfaces that have addresses and are not `own`."""
    names = {link.index: link.name for link in host.links()}
    indexes = {index for index, address in host.addresses()}
    if ipv6:
        indexes = {index for index, address in host.addresses6() if not address.is_link_local}
        _keep_routers(names.values())
    return sorted({names.get(index, "") for index in indexes} - {"", "lo", *own})


def _keep_routers(interfaces: Collection[str]) -> None:
    """Let the host go on to listen to routers, from which it may have its addresses and routes.

    One that forwards does so only with accept_ra=2. Source: linux ip-sysctl.rst.
    """
    for name in interfaces:
        if read_sysctl(f"ipv6/conf/{name}/accept_ra") == "1":
            quietly_write_sysctl(f"ipv6/conf/{name}/accept_ra", "2")
