"""An interface inside of a container: its name, its addresses and the default routes over it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface

from sampan.network.netlink.protocol import Message
from sampan.network.netlink.rtnetlink import (
    add_address,
    add_default_route,
    add_host_route,
    delete_default_route,
    set_link,
)
from sampan.network.plumber import EndpointSpec, PlugEnd
from sampan.network.sandbox import Sandbox, Wired


def configure(wired: Wired, endpoint: EndpointSpec, mtu: int = 0) -> None:
    """Give an interface that is down all that an endpoint has, and switch it on; raises OSError."""
    renamed = endpoint.interface if endpoint.interface != wired.inner_name else ""
    addresses = (endpoint.address, endpoint.address6, *endpoint.more_addresses)
    _set_up(
        wired,
        set_link(wired.inner, name=renamed, mac=endpoint.mac_address, mtu=mtu, up=True),
        [address for address in addresses if address],
        [gateway for gateway in (endpoint.gateway, endpoint.gateway6) if gateway],
    )
    if endpoint.sysctls:
        wired.sandbox.set_sysctls(endpoint.interface, endpoint.sysctls)


def configure_plugged(wired: Wired, end: PlugEnd, mtu: int = 0, near: Sequence[str] = ()) -> None:
    """Do the same for an interface that was plugged by hand.

    `near` are addresses that are reached by it though they are in no subnet of it.
    """
    change = set_link(wired.inner, mac=end.mac_address, mtu=mtu, up=True)
    own = [ip_interface(address) for address in end.addresses]
    far = [
        it
        for it in (ip_interface(text).ip for text in near)
        if not any(it in address.network for address in own)
    ]
    routes = [add_host_route(address, wired.inner) for address in far]
    _set_up(wired, change, end.addresses, end.gateways, routes)


def _set_up(
    wired: Wired,
    change: Message,
    addresses: Sequence[str],
    gateways: Sequence[str],
    routes: Sequence[Message] = (),
) -> None:
    if any(":" in address for address in addresses):
        wired.sandbox.switch_ipv6_on(wired.inner_name)
    wired.sandbox.request(
        change,
        *(add_address(wired.inner, ip_interface(address)) for address in addresses),
        *routes,
        *(add_default_route(ip_address(gateway), wired.inner) for gateway in gateways),
    )


def set_routes(namespace: int, before: EndpointSpec, after: EndpointSpec) -> None:
    """Change the default routes in a namespace from those of an endpoint before to after.

    A route that somebody else has made meanwhile stays; raises OSError.
    """
    with Sandbox.of(namespace) as sandbox:
        if not (link := sandbox.link(after.interface)):
            return  # the user has renamed or removed it
        for old, new in ((before.gateway, after.gateway), (before.gateway6, after.gateway6)):
            # IPv6 takes a second default route as another way; the old one goes first.
            if old and (":" in old or not new):
                try:
                    sandbox.request(delete_default_route(ip_address(old), link.index))
                except OSError as error:
                    if error.errno != errno.ESRCH:
                        raise
            if new:
                sandbox.request(add_default_route(ip_address(new), link.index, replace=True))
