"""The default route of a container that runs."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address

from sampan.network.netlink import add_default_route, delete_default_route
from sampan.network.plumber import EndpointSpec
from sampan.network.sandbox import Sandbox


def set_route(namespace: int, before: EndpointSpec, after: EndpointSpec) -> None:
    """Change the default route in a namespace from that of an endpoint before to after.

    A route that somebody else has made meanwhile stays; raises OSError.
    """
    with Sandbox.of(namespace) as sandbox:
        if not (link := sandbox.link(after.interface)):
            return  # the user has renamed or removed it
        if after.gateway:
            sandbox.request(add_default_route(IPv4Address(after.gateway), link.index, replace=True))
        elif before.gateway:
            try:
                sandbox.request(delete_default_route(IPv4Address(before.gateway), link.index))
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise
