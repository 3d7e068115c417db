"""What the daemon's options make of the default bridge."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.engine.networks.networks import NetworkOptions
from sampan.errors import InvalidArgument
from sampan.spec.docker.networks import IPAMConfig
from tests.unit.engine.network_world import World, connect, wish


def config(world: World, **options: Any) -> IPAMConfig:
    """Return the range of the default bridge of a daemon with these options."""
    networks = world.again(options=NetworkOptions(**options))
    [found] = world.run(networks.inspect("bridge")).ipam.config or []
    return found


def test_only_addresses_of_the_fixed_range_are_given_out(world: World) -> None:
    found = config(world, bip="10.5.0.1/16", fixed_cidr="10.5.7.0/24")
    assert found == IPAMConfig(subnet="10.5.0.0/16", ip_range="10.5.7.0/24", gateway="10.5.0.1")
    assert connect(world, wish()).settings.ip_address == "10.5.7.0"


def test_a_fixed_range_alone_is_the_bridge_s_network(world: World) -> None:
    found = config(world, fixed_cidr="10.6.0.0/24")
    assert (found.subnet, found.gateway) == ("10.6.0.0/24", "10.6.0.1")
    assert connect(world, wish()).settings.ip_address == "10.6.0.2"


def test_another_gateway_has_the_default_route_and_no_container_gets_its_address(
    world: World,
) -> None:
    found = config(world, bip="10.5.0.1/29", default_gateway="10.5.0.2")
    assert found.aux_address == {"DefaultGatewayIPv4": "10.5.0.2"}
    shown = connect(world, wish()).settings.networks["bridge"]
    assert (shown.ip_address, shown.gateway) == ("10.5.0.3", "10.5.0.2")
    [made] = world.plumber.endpoints()
    assert made.endpoint.gateway == "10.5.0.2"


def test_a_bridge_of_the_administrator_s_is_used_as_it_is(world: World) -> None:
    world.plumber.foreign["br0"] = ["192.168.7.1/24"]
    found = config(world, bridge="br0", fixed_cidr="192.168.7.128/25")
    assert (found.subnet, found.gateway) == ("192.168.7.0/24", "192.168.7.1")
    [bridge] = world.plumber.bridges.values()
    assert (bridge.name, bridge.foreign) == ("br0", True)
    world.plumber.foreign["br0"] = []
    assert config(world, bridge="br0").subnet == "192.168.7.0/24"  # it gets the one it had
    with pytest.raises(InvalidArgument, match="-b & --bip, mutually exclusive"):
        world.plumber.foreign["br0"] = ["192.168.7.1/24"]
        config(world, bridge="br0", bip="10.1.0.1/16")


def test_forwarding_is_left_to_the_administrator_if_that_is_wanted(world: World) -> None:
    config(world, ip_forward=False)
    assert [bridge.forwarding for bridge in world.plumber.bridges.values()] == [False]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fixed_cidr": "x"}, "invalid fixed-cidr"),
        ({"bip": "10.5.0.1/24", "fixed_cidr": "10.6.0.0/24"}, "is not within the default bridge"),
        ({"bip": "10.5.0.1/24", "default_gateway": "10.6.0.1"}, "must be part of 10.5.0.0/24"),
    ],
)
def test_options_that_do_not_fit_stop_the_start(
    world: World, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        config(world, **options)
