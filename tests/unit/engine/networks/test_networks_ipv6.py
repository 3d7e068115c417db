"""Networks with IPv6 beside IPv4."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from sampan.engine.networks.networks import NetworkOptions
from sampan.errors import Forbidden, InvalidArgument
from sampan.spec.docker.networks import (
    IPAM,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
)
from tests.unit.engine.network_world import CONTAINER, World, connect, create, wish

BOTH = IPAM(config=[IPAMConfig(subnet="10.9.0.0/24"), IPAMConfig(subnet="fd00:9::/64")])


def test_a_network_has_a_range_of_each_family_and_containers_an_address_of_each(
    world: World,
) -> None:
    made = create(world, "both", enable_ipv6=True, ipam=BOTH)
    bridge = world.plumber.bridges[made]
    assert (bridge.subnet6, bridge.gateway6) == ("fd00:9::/64", "fd00:9::1")
    shown = world.run(world.networks.inspect("both"))
    assert shown.enable_ipv6
    assert [config.gateway for config in shown.ipam.config or []] == ["10.9.0.1", "fd00:9::1"]
    connection = connect(world, wish(mode="both"))
    endpoint = connection.settings.networks["both"]
    assert (endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len) == ("fd00:9::2", 64)
    assert endpoint.ipv6_gateway == "fd00:9::1"
    [found] = world.plumber.endpoints()
    assert (found.endpoint.address6, found.endpoint.gateway6) == ("fd00:9::2/64", "fd00:9::1")
    assert b"fd00:9::2\tweb\n" in connection.files["hosts"]
    [member] = world.run(world.networks.inspect("both")).containers.values()
    assert member.ipv6_address == "fd00:9::2/64"
    world.run(world.networks.disconnect(CONTAINER))
    again = connect(world, wish(mode="both")).settings.networks["both"]
    assert again.global_ipv6_address == "fd00:9::3"  # the others have their turn first


def test_without_a_range_of_the_user_s_it_is_a_free_one_of_this_engine(world: World) -> None:
    found = set()
    for name in ("one", "two"):
        made = create(world, name, enable_ipv6=True)
        found.add(IPv6Network(world.plumber.bridges[made].subnet6))
    assert len(found) == 2
    assert all(subnet.prefixlen == 64 and subnet.is_private for subnet in found)
    assert len({subnet.supernet(new_prefix=48) for subnet in found}) == 1


def test_ipv6_ranges_are_not_used_where_it_is_off_and_must_not_overlap(world: World) -> None:
    create(world, "off", ipam=BOTH)
    assert connect(world, wish(mode="off")).settings.networks["off"].global_ipv6_address == ""
    create(world, "on", enable_ipv6=True, ipam=IPAM(config=[IPAMConfig(subnet="fd00:9::/64")]))
    with pytest.raises(Forbidden, match="Pool overlaps"):
        create(world, "x", enable_ipv6=True, ipam=IPAM(config=[IPAMConfig(subnet="fd00:9::/48")]))


def test_an_ipv6_address_is_fixed_if_the_network_has_it(world: World) -> None:
    create(world, "both", enable_ipv6=True, ipam=BOTH)

    def fixed(address: str) -> EndpointSettings:
        return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv6_address=address))

    asked = wish(mode="both", endpoints={"both": fixed("fd00:9::77")})
    world.run(world.networks.check(asked))
    shown = connect(world, asked).settings.networks["both"]
    assert shown.global_ipv6_address == "fd00:9::77"
    other = wish(container_id="d" * 64, mode="both", endpoints={"both": fixed("fd00:9::77")})
    with pytest.raises(Forbidden, match="Address already in use"):
        world.run(world.networks.connect(other))
    assert (
        connect(world, wish(container_id="e" * 64, mode="both"))
        .settings.networks["both"]
        .ip_address.endswith(".4")
    )  # the IPv4 address of the one that failed was given back
    outside = wish(container_id="d" * 64, mode="both", endpoints={"both": fixed("fd00:8::1")})
    with pytest.raises(InvalidArgument, match="contain the IP address fd00:8::1"):
        world.run(world.networks.connect(outside))
    with pytest.raises(InvalidArgument, match="invalid IPv6 address: x"):
        world.run(world.networks.check(wish(mode="both", endpoints={"both": fixed("x")})))


def test_the_default_bridge_has_ipv6_if_that_is_wanted(world: World) -> None:
    options = NetworkOptions(
        ipv6=True,
        bip6="fd00:5::1/64",
        fixed_cidr6="fd00:5::7:0/112",
        default_gateway6="fd00:5::fe",
    )
    networks = world.again(options=options)
    shown = world.run(networks.inspect("bridge"))
    assert shown.enable_ipv6
    settings = connect(world, wish()).settings
    assert IPv6Address(settings.global_ipv6_address) in IPv6Network("fd00:5::7:0/112")
    assert settings.ipv6_gateway == "fd00:5::fe"
    assert settings.global_ipv6_prefix_len == 64
    for bad in ({"bip6": "x"}, {"bip6": "fd00:5::1/64", "fixed_cidr6": "fd00:6::/80"}):
        with pytest.raises(InvalidArgument):
            world.again(options=NetworkOptions(ipv6=True, **bad))  # type: ignore[arg-type]


def test_servers_of_ipv6_are_asked_where_there_is_ipv6(world: World) -> None:
    path = world.networks._options.resolv_conf
    with open(path, "w") as file:
        file.write("nameserver 2001:db8::53\nnameserver ::1\nnameserver 192.0.2.53\n")
    assert connect(world, wish()).files["resolv.conf"] == b"nameserver 192.0.2.53\n"
    world.again(options=NetworkOptions(ipv6=True, resolv_conf=path))
    assert connect(world, wish()).files["resolv.conf"] == (
        b"nameserver 2001:db8::53\nnameserver 192.0.2.53\n"
    )
