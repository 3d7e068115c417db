"""Who clients of a registry are, and how much they may take: connections, requests, descriptors."""

from __future__ import annotations

import resource
from dataclasses import replace

from sampan.http.limits import Limits
from sampan.registry.configuration.document import Checked
from sampan.registry.configuration.nodes import seconds
from sampan.registry.serving.proxied import Trusted
from sampan.registry.serving.server import LIMITS

MOST = 1 << 20  # descriptors, where there is no limit
EACH = 3  # descriptors for a connection: itself, the file that it reads, and what that comes from


def limits(checked: Checked) -> Limits:
    """Return the limits of a configuration, and let this process have the descriptors for them.

    What the system does not give is not promised: else files could not be opened for anybody.
    """
    wanted = int(checked.get("http.clients.connections", LIMITS.connections))
    return replace(
        LIMITS,
        connections=min(wanted, max(1, _descriptors() // EACH)),
        requests=int(checked.get("http.clients.requests", LIMITS.requests)),
        grace_seconds=seconds(checked.get("http.draintimeout", 0)) or LIMITS.grace_seconds,
    )


def proxies(checked: Checked) -> Trusted | None:
    """Return who is believed what they say of their clients; None if nobody is."""
    listed = [str(text) for text in checked.get("http.clients.proxies", [])]
    return Trusted(listed) if listed else None


def _descriptors() -> int:
    """Return how many descriptors this process may have, now that it takes all that it can."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else MOST
