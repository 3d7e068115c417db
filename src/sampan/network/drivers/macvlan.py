"""The macvlan driver: containers with MAC addresses of their own on the wire of the host's."""

from __future__ import annotations

from functools import partial
from typing import Final

from sampan.errors import Conflict
from sampan.network.drivers.parents import Parents, name_of
from sampan.network.interface import configure_plugged
from sampan.network.made import Made
from sampan.network.netlink.protocol import u32
from sampan.network.plumber import EndpointSpec, MacvlanSpec, PlugEnd
from sampan.network.sandbox import Sandbox, Wired
from sampan.rpc import Fd

IFLA_MACVLAN_MODE: Final = 1  # linux/if_link.h
_MODES: Final = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}


class MacvlanDriver:
    """Networks on parent interfaces, one macvlan interface for each endpoint.

    The host itself is not reached by its own interface: the kernel keeps them apart. Published
    ports mean nothing here.
    """

    def __init__(self, parents: Parents) -> None:
        self._parents = parents

    def ensure(self, network: MacvlanSpec) -> None:
        """Find or make the parent; Conflict if a network in mode passthru shares it."""
        self._parents.require("macvlan")
        for other in self._parents.others(network):
            if network.mode == "passthru":
                raise Conflict(
                    f"cannot use mode passthru, macvlan network {other.network_id} is already "
                    f"using parent interface {name_of(network)}"
                )
            if other.mode == "passthru":
                raise Conflict(
                    f"macvlan network {other.network_id} is already using parent interface "
                    f"{name_of(network)} in mode passthru"
                )
        self._parents.ensure(network)

    def remove(self, network: MacvlanSpec) -> None:
        """Remove the parent if it is ours and nobody else's."""
        self._parents.remove(network)

    def attach(self, endpoint: EndpointSpec, network: MacvlanSpec, sandbox: Fd | None) -> Wired:
        """Put a macvlan interface into a namespace."""
        data = u32(IFLA_MACVLAN_MODE, _MODES[network.mode])
        return self._parents.attach(endpoint, network, data, sandbox)

    def lay(self, box: Sandbox, end: PlugEnd, network: MacvlanSpec) -> Wired:
        """Put a macvlan interface into a sandbox that a user has asked for."""
        data = u32(IFLA_MACVLAN_MODE, _MODES[network.mode])
        done = partial(configure_plugged, end=end)
        return self._parents.lay(box, end.interface, end.mac_address, network, data, done)

    def detach(self, made: Made, sandbox: Fd | None) -> None:
        """Remove it from the namespace of a container that runs on."""
        self._parents.detach(made, sandbox)
