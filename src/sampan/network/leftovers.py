"""Interfaces that belong to nobody: what a plumber left that was killed in the middle of a call.

Every interface of ours has our mark before anybody hears of it, and a record when its call has
come to its end. So what has the mark and no record was being made, or removed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import delete_link

log = logging.getLogger(__name__)


def clear(
    host: RouteSocket, owner: str, *, interfaces: Collection[str], endpoints: Collection[str]
) -> None:
    """Remove what has the mark of `owner` and is none of networks' `interfaces` or of `endpoints`.

    Interfaces in stock are among it: the stock of a process ends with it. Networks that were half
    made are made anew by a daemon that wants them.
    """
    for link in host.links():
        marked, _, mark = link.alias.partition(":")
        if marked == owner and mark not in endpoints and link.name not in interfaces:
            log.info("the interface %s (%s) is left over and removed", link.name, link.alias)
            host.attempt(delete_link(link.index))
