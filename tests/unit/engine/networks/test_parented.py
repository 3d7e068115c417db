"""The rules of macvlan and ipvlan networks, on a plumber that makes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sampan.errors import Conflict, Internal, Unsupported
from sampan.network.plumber import IpvlanSpec, MacvlanSpec
from sampan.network.ports import Unwanted
from sampan.rpc import Fd
from sampan.spec.docker.networks import (
    IPAM,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
    PortBinding,
)
from tests.unit.engine.network_world import World, connect, create, wish

SUBNET = "198.51.100.0/24"
GATEWAY = "198.51.100.1"


@pytest.fixture
def namespace() -> Iterator[Fd]:
    with Fd(os.open("/dev/null", os.O_RDONLY)) as given:
        yield given


def parented(world: World, driver: str = "macvlan", name: str = "lan", **options: str) -> str:
    options = {"parent": "eth0", **options}
    return create(world, name, SUBNET, driver=driver, options=options)


def gateways(world: World) -> dict[str, str]:
    return {made.endpoint.network_id: made.endpoint.gateway for made in world.plumber.made.values()}


def test_the_plumber_is_told_parent_and_mode(world: World) -> None:
    made = parented(world, macvlan_mode="private")
    assert world.plumber.bridges[made] == MacvlanSpec(
        network_id=made, parent="eth0", mode="private", domain="lan"
    )
    ipvlan = create(world, "ip", "10.9.0.0/24", driver="ipvlan", options={"parent": "eth1"})
    assert world.plumber.bridges[ipvlan] == IpvlanSpec(
        network_id=ipvlan, parent="eth1", mode="l2", flag="bridge", domain="ip"
    )


def test_inspect_shows_what_the_user_said_and_docker_s_gateway(world: World) -> None:
    made = parented(world)
    shown = world.run(world.networks.inspect("lan"))
    assert (shown.id, shown.driver, shown.options) == (made, "macvlan", {"parent": "eth0"})
    assert [(it.subnet, it.gateway) for it in shown.ipam.config or []] == [(SUBNET, GATEWAY)]
    settings = connect(world, wish(mode="lan")).settings.networks["lan"]
    assert (settings.ip_address, settings.gateway) == ("198.51.100.2", GATEWAY)
    assert settings.mac_address == "02:42:c6:33:64:02"
    assert settings.dns_names == ["web", "c" * 12]


@pytest.mark.parametrize("more", [{"internal": True}, {"options": {}}], ids=["internal", "alone"])
def test_a_network_that_leads_nowhere_has_no_gateway(world: World, more: dict[str, object]) -> None:
    made = create(world, "lan", SUBNET, **{"driver": "macvlan", "options": {"parent": "e"}, **more})
    spec = world.plumber.bridges[made]
    assert spec.internal
    assert getattr(spec, "parent", None) == ("e" if "internal" in more else "")
    settings = connect(world, wish(mode="lan")).settings.networks["lan"]
    assert (settings.ip_address, settings.gateway) == ("198.51.100.1", "")
    assert gateways(world) == {made: ""}


@pytest.mark.parametrize(
    ("driver", "options", "sentence"),
    [
        (
            "macvlan",
            {"macvlan_mode": "x"},
            "requested macvlan mode 'x' is not valid, 'bridge' mode",
        ),
        ("macvlan", {"parent": "lo"}, "loopback interface is not a valid macvlan parent link"),
        ("ipvlan", {"ipvlan_mode": "l4"}, "requested ipvlan mode 'l4' is not valid, 'l2' mode is"),
        ("ipvlan", {"ipvlan_flag": "x"}, "requested ipvlan flag 'x' is not valid, 'bridge' is the"),
    ],
)
def test_options_that_the_drivers_do_not_know_are_refused_in_docker_s_words(
    world: World, driver: str, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(Internal, match=sentence):
        parented(world, driver, **options)
    assert [it.name for it in world.run(world.networks.list({}))] == ["host", "none", "bridge"]


def test_several_subnets_are_refused(world: World) -> None:
    ipam = IPAM(config=[IPAMConfig(subnet=it) for it in ("10.1.0.0/24", "10.2.0.0/24")])
    with pytest.raises(Unsupported, match="macvlan networks with several subnets"):
        world.run(
            world.networks.create(NetworkCreateRequest(name="n", driver="macvlan", ipam=ipam))
        )


def test_published_ports_are_ignored_as_docker_does(world: World) -> None:
    parented(world)
    bindings = {"80/tcp": [PortBinding(host_port="8080")]}
    shown = connect(world, wish(mode="lan", port_bindings=bindings, exposed_ports=["80/tcp"]))
    assert shown.settings.ports == {}
    assert [made.ports for made in world.plumber.made.values()] == [[]]
    with pytest.raises(Conflict, match="is on no network that publishes ports"):
        world.run(world.networks.publish("c" * 64, bindings, [Unwanted("", "9", "")]))


def test_ports_are_published_when_the_default_route_moves_to_a_bridge_and_back(
    world: World, namespace: Fd
) -> None:
    parented(world)
    bridge = create(world, "backend", "10.9.0.0/24")
    asked = wish(mode="lan", port_bindings={"80/tcp": [PortBinding(host_port="8080")]})
    connect(world, asked)

    def ports() -> dict[str, list[int]]:
        return {
            made.endpoint.network_id: [port.host_port for port in made.ports]
            for made in world.plumber.made.values()
            if made.ports
        }

    world.run(world.networks.join(asked, "backend", None, namespace))  # the first by name
    assert ports() == {bridge: [8080, 8080]}
    first = EndpointSettings(gw_priority=5)
    world.run(world.networks.leave("c" * 64, "lan", namespace))
    world.run(world.networks.join(asked, "lan", first, namespace))
    assert ports() == {}
    world.run(world.networks.leave("c" * 64, "lan", namespace))
    assert ports() == {bridge: [8080, 8080]}


def test_ipvlan_has_the_parent_s_mac_address_and_no_other(world: World) -> None:
    parented(world, "ipvlan")
    assert connect(world, wish(mode="lan")).settings.networks["lan"].mac_address == ""
    other = wish(container_id="d" * 64, mode="lan", mac_address="02:00:00:00:00:01")
    with pytest.raises(Internal, match="ipvlan interfaces do not support custom mac address"):
        world.run(world.networks.connect(other))


def test_in_the_routed_modes_of_ipvlan_everything_is_out_of_the_interface(world: World) -> None:
    made = parented(world, "ipvlan", ipvlan_mode="l3")
    shown = connect(world, wish(mode="lan")).settings.networks["lan"]
    assert (shown.ip_address, shown.gateway) == ("198.51.100.1", "")
    assert gateways(world) == {made: "0.0.0.0"}


def test_a_daemon_that_starts_again_has_them_as_before(world: World) -> None:
    made = parented(world, macvlan_mode="vepa")
    asked = wish(mode="lan")
    before = connect(world, asked).settings
    spec = world.plumber.bridges.pop(made)
    again = world.again(asked)
    assert world.plumber.bridges[made] == spec
    assert again.settings(asked.container_id) == before
