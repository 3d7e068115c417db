"""The ipvlan driver: containers behind the MAC address of an interface of the host's."""

from __future__ import annotations

from typing import Final

from sampan.errors import Conflict
from sampan.network.drivers.parents import Parents, name_of
from sampan.network.made import Made
from sampan.network.netlink.protocol import u16
from sampan.network.plumber import EndpointSpec, IpvlanSpec
from sampan.network.sandbox import Wired
from sampan.rpc import Fd

IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2  # linux/if_link.h
_MODES: Final = {"l2": 0, "l3": 1, "l3s": 2}
_FLAGS: Final = {"bridge": 0, "private": 1, "vepa": 2}


class IpvlanDriver:
    """Networks on parent interfaces, one ipvlan interface for each endpoint.

    In the modes l3 and l3s the parent routes, and nothing is broadcast.
    """

    def __init__(self, parents: Parents) -> None:
        self._parents = parents

    def ensure(self, network: IpvlanSpec) -> None:
        """Find or make the parent, which no two networks share; Conflict, Unsupported."""
        self._parents.require("ipvlan")
        for other in self._parents.others(network):
            raise Conflict(
                f"network dm-{other.network_id[:12]} is already using parent interface "
                f"{name_of(network)}"
            )
        self._parents.ensure(network)

    def remove(self, network: IpvlanSpec) -> None:
        """Remove the parent if it is ours and nobody else's."""
        self._parents.remove(network)

    def attach(self, endpoint: EndpointSpec, network: IpvlanSpec, sandbox: Fd | None) -> Wired:
        """Put an ipvlan interface into a namespace."""
        data = u16(IFLA_IPVLAN_MODE, _MODES[network.mode])
        data += u16(IFLA_IPVLAN_FLAGS, _FLAGS[network.flag])
        return self._parents.attach(endpoint, network, data, sandbox)

    def detach(self, made: Made, sandbox: Fd | None) -> None:
        """Remove it from the namespace of a container that runs on."""
        self._parents.detach(made, sandbox)
