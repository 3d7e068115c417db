"""The default routes of a container that runs."""

from __future__ import annotations

import errno
from ipaddress import ip_address

from sampan.network.netlink import add_default_route, delete_default_route
from sampan.network.plumber import EndpointSpec
from sampan.network.sandbox import Sandbox


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
