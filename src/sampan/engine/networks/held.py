"""What a running container has of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.model import PREDEFINED, Wish
from sampan.network import ports
from sampan.network.plumber import EndpointSpec, PortMapping
from sampan.spec.docker.networks import EndpointSettings


@dataclass(slots=True)
class Plugged:
    """One endpoint of a running container."""

    row: NetworkRow
    settings: EndpointSettings
    spec: EndpointSpec | None = None  # None for host and none: nothing was made
    ports: list[PortMapping] = field(default_factory=list)


@dataclass(slots=True)
class Held:
    """What a running container has."""

    wish: Wish
    plugged: list[Plugged]


def has_names(plugged: Sequence[Plugged]) -> bool:
    """Tell whether a container is on a network where others are found by name."""
    return any(one.row.network.name not in PREDEFINED for one in plugged)


def fits(unwanted: ports.Unwanted, mapping: PortMapping) -> bool:
    """Tell whether a port that was published is to be taken back."""
    port = ports.Port(mapping.container_port, mapping.protocol)
    host_port = str(mapping.host_port)
    # One that was published on all addresses of both families is one port to the user.
    is_any = unwanted.host_ip == "" or (unwanted.host_ip, mapping.host_address) == ("0.0.0.0", "::")
    return unwanted.fits(port, unwanted.host_ip if is_any else mapping.host_address, host_port)
