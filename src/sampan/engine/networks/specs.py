"""What the plumber is to make of a network that the engine has stored."""

from __future__ import annotations

import msgspec

from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.model import PREDEFINED
from sampan.network.plumber import BridgeSpec, NetworkSpec


def spec_of(row: NetworkRow, *, forwarding: bool) -> NetworkSpec:
    """Return the plumber's specification; `forwarding` is the daemon's --ip-forward."""
    network = row.network
    domain = "" if network.name in PREDEFINED else network.name
    if row.is_bridge:
        return BridgeSpec(
            network_id=network.id,
            name=row.interface,
            subnet=str(row.subnet),
            gateway=str(row.gateway),
            subnet6=str(row.subnet6 or ""),
            gateway6=str(row.gateway6 or ""),
            mtu=row.mtu,
            masquerade=row.masquerade,
            inter_container=row.inter_container,
            internal=network.internal,
            foreign=row.foreign,
            forwarding=forwarding,
            mode=row.mode,
            mode6=row.mode6,
            domain=domain,
        )
    fields = {
        "type": network.driver,  # the tag of the specification
        "network_id": network.id,
        "parent": "" if row.is_parentless else row.interface,
        "mode": row.driver_mode,
        "internal": row.internal,
        "domain": domain,
        **({"flag": row.driver_flag} if row.driver_flag else {}),
    }
    spec: NetworkSpec = msgspec.convert(fields, NetworkSpec)
    return spec
