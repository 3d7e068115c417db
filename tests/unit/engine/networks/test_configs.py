"""Networks that are mere configurations, and those made from one."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.errors import Forbidden, NotFound
from sampan.spec.docker.networks import IPAM, ConfigReference, IPAMConfig
from tests.unit.engine.network_world import CONTAINER, World, connect, create, names, wish

CONFIGURATION: dict[str, Any] = {
    "config_only": True,
    "ipam": IPAM(config=[IPAMConfig(subnet="10.7.0.0/24", gateway="10.7.0.9")]),
    "options": {"com.docker.network.bridge.enable_icc": "false"},
    "labels": {"stage": "test"},
}


def of(name: str) -> ConfigReference:
    return ConfigReference(network=name)


def test_a_configuration_is_shown_and_nothing_is_made_of_it(world: World) -> None:
    create(world, "plan", **CONFIGURATION)
    shown = world.run(world.networks.inspect("plan"))
    assert (shown.driver, shown.scope, shown.config_only) == ("null", "local", True)
    assert shown.ipam.config == [IPAMConfig(subnet="10.7.0.0/24", gateway="10.7.0.9")]
    assert len(world.plumber.bridges) == 1
    assert world.events[-1][0] == "create"


def test_a_network_has_what_its_configuration_says_also_after_a_restart(world: World) -> None:
    create(world, "plan", **CONFIGURATION)
    made = create(world, "backend", config_from=of("plan"), internal=True)
    bridge = world.plumber.bridges[made]
    assert (bridge.subnet, bridge.gateway) == ("10.7.0.0/24", "10.7.0.9")
    assert (bridge.inter_container, bridge.internal) == (False, True)
    world.again()
    shown = world.run(world.networks.inspect("backend"))
    assert shown.config_from == of("plan")
    assert (shown.driver, shown.labels) == ("bridge", {"stage": "test"})
    assert world.run(world.networks.inspect("plan")).config_only


def test_a_configuration_in_use_stays_and_is_never_pruned(world: World) -> None:
    create(world, "plan", **CONFIGURATION)
    create(world, "backend", config_from=of("plan"))
    with pytest.raises(Forbidden, match='configuration network "plan" is in use'):
        world.run(world.networks.remove("plan"))
    assert world.run(world.networks.prune({})).networks_deleted == ["backend"]
    assert names(world) == ["host", "none", "bridge", "plan"]
    world.run(world.networks.remove("plan"))


def test_no_container_is_connected_with_a_configuration(world: World) -> None:
    create(world, "plan", **CONFIGURATION)
    sentence = "cannot create endpoint on configuration-only network"
    with pytest.raises(Forbidden, match=sentence):
        connect(world, wish(mode="plan"))
    with pytest.raises(Forbidden, match=sentence):
        world.networks.check_joining(wish(), "plan", None)
    assert world.networks.settings(CONTAINER) is None


@pytest.mark.parametrize("more", [{"internal": True}, {"attachable": True}, {"scope": "local"}])
def test_a_configuration_has_only_what_belongs_to_one(world: World, more: dict[str, Any]) -> None:
    with pytest.raises(Forbidden, match="can only contain network specific fields"):
        create(world, "plan", **{**CONFIGURATION, **more})


@pytest.mark.parametrize(
    ("more", "error", "sentence"),
    [
        ({}, NotFound, 'configuration network "plan" does not exist'),
        ({"config_only": True}, Forbidden, "cannot depend on another configuration network"),
        ({"labels": {"a": "b"}}, Forbidden, "user-specified configurations are not supported"),
        ({"enable_ipv6": True}, Forbidden, "user-specified configurations are not supported"),
        (
            {"ipam": CONFIGURATION["ipam"]},
            Forbidden,
            "user-specified configurations are not supported",
        ),
        ({"options": {"a": "b"}}, Forbidden, "network driver options are not supported"),
    ],
)
def test_nothing_is_configured_twice(
    world: World, more: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        create(world, "backend", config_from=of("plan"), **more)
    assert names(world) == ["host", "none", "bridge"]
