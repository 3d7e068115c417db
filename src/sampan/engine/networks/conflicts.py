"""Which networks go together in one container, and which do not.

Source of rules and sentences: moby daemon/internal/runconfig, daemon/container_operations.go.
"""

from __future__ import annotations

from sampan.engine.networks.model import CONTAINER, HOST, NONE, Wish
from sampan.errors import InvalidArgument


def check_mode(wish: Wish) -> None:
    """Refuse what makes no sense in another container's network.

    Source: moby daemon/internal/runconfig/hostconfig.go, validateNetContainerMode.
    """
    wrong = [
        (not wish.mode.removeprefix(CONTAINER), "invalid container format container:<name|id>"),
        (wish.dns, "conflicting options: dns and the network mode"),
        (
            wish.extra_hosts,
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (wish.mac_address, "conflicting options: mac-address and the network mode"),
        (
            wish.port_bindings or wish.publish_all,
            "conflicting options: port publishing and the container type network mode",
        ),
    ]
    for is_wrong, sentence in wrong:
        if is_wrong:
            raise InvalidArgument(sentence)


def check_several(wish: Wish) -> None:
    """Refuse `host` and `none` among several networks of a new container."""
    if len(wish.endpoints) > 1 and wish.network in (HOST, NONE):
        raise InvalidArgument(
            "container cannot be connected to multiple networks with one of the networks in "
            f"{'private (none)' if wish.network == NONE else 'host'} mode"
        )


def check_joining(network: str, wish: Wish) -> None:
    """Refuse to connect a container with one more network, given by name, that does not fit."""
    if wish.mode.startswith(CONTAINER):
        raise InvalidArgument(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network"
        )
    if HOST in (network, wish.network):
        raise InvalidArgument(
            "cannot connect container to host network - container must be created in host network "
            "mode"
            if network == HOST
            else "cannot connect a container of the host network to another network"
        )
    if NONE in (network, wish.network):
        raise InvalidArgument(
            "container cannot be connected to multiple networks with one of the networks in "
            "private (none) mode"
        )


def check_leaving(network: str) -> None:
    """Refuse to take a container off the host's network."""
    if network == HOST:
        raise InvalidArgument(
            "cannot disconnect container from host network - container must be created in host "
            "network mode"
        )
