"""The rules of containers on networks, on a plumber that makes nothing."""

from __future__ import annotations

import asyncio
import os

import pytest

from sampan.errors import (
    Conflict,
    Forbidden,
    Internal,
    InvalidArgument,
)
from sampan.network.ports import Unwanted
from sampan.rpc import Fd
from sampan.spec.docker.networks import (
    EndpointIPAMConfig,
    EndpointSettings,
    PortBinding,
)
from tests.unit.engine.network_world import (
    CONTAINER,
    World,
    connect,
    create,
    wish,
)


def test_a_fixed_address_and_aliases_work_on_a_network_of_a_user(world: World) -> None:
    create(world, "backend", "10.9.0.0/24")
    settings = EndpointSettings(
        aliases=["db"], ipam_config=EndpointIPAMConfig(ipv4_address="10.9.0.77")
    )
    asked = wish(mode="backend", endpoints={"backend": settings})
    world.run(world.networks.check(asked))
    shown = connect(world, asked).settings
    assert shown.networks["backend"].ip_address == "10.9.0.77"
    assert shown.networks["backend"].dns_names == ["web", "db", "c" * 12]
    assert shown.ip_address == ""  # the upper half is about the default bridge
    other = wish(container_id="d" * 64, mode="backend", endpoints={"backend": settings})
    with pytest.raises(Forbidden, match="container networking: Address already in use"):
        world.run(world.networks.connect(other))
    settings.ipam_config.ipv4_address = "10.9.1.77"
    with pytest.raises(InvalidArgument, match="no configured subnet or ip-range contain the IP"):
        world.run(world.networks.connect(other))


def test_addresses_are_fixed_only_where_the_user_has_chosen_the_subnet(world: World) -> None:
    create(world, "backend")
    settings = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="172.18.0.77"))
    with pytest.raises(InvalidArgument, match="networks with user configured subnets"):
        world.run(world.networks.connect(wish(mode="backend", endpoints={"backend": settings})))


def test_an_exhausted_network_says_which_it_is(world: World) -> None:
    made = create(world, "small", "10.9.0.0/30")
    connect(world, wish(mode="small"))
    with pytest.raises(Internal, match=rf"no available IPv4 addresses .*: small \({made}\)"):
        world.run(world.networks.connect(wish(container_id="d" * 64, mode="small")))


def test_options_of_a_network_reach_its_endpoints(world: World) -> None:
    options = {
        "com.docker.network.container_iface_prefix": "lan",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
        "com.docker.network.bridge.name": "mine0",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "0",
        "com.docker.network.driver.mtu": "1400",
    }
    made = create(world, "backend", options=options)
    bridge = world.plumber.bridges[made]
    assert (bridge.name, bridge.inter_container, bridge.masquerade) == ("mine0", False, False)
    assert bridge.mtu == 1400
    bindings = {"80/tcp": [PortBinding(host_port="8080")]}
    endpoint = EndpointSettings(ipam_config=EndpointIPAMConfig(link_local_ips=["169.254.7.7"]))
    connect(world, wish(mode="backend", endpoints={"backend": endpoint}, port_bindings=bindings))
    [found] = world.plumber.endpoints()
    assert found.endpoint.interface == "lan0"
    assert found.endpoint.more_addresses == ["169.254.7.7/16"]
    assert [port.host_address for port in found.ports] == ["127.0.0.1"]
    named = EndpointSettings(driver_opts={"com.docker.network.endpoint.ifname": "wan"})
    connect(world, wish(mode="backend", endpoints={"backend": named}))
    assert [it.endpoint.interface for it in world.plumber.endpoints()] == ["wan"]


def test_names_are_resolved_on_networks_of_users_only(world: World) -> None:
    assert connect(world, wish()).files["resolv.conf"] == b"nameserver 192.0.2.53\n"
    assert world.plumber.resolvers == {}
    create(world, "backend")
    linked = EndpointSettings(aliases=["www"], links=["postgres:db"])
    files = connect(
        world, wish(mode="backend", endpoints={"backend": linked}, dns=["192.0.2.1"])
    ).files
    assert files["resolv.conf"] == b"nameserver 127.0.0.11\noptions ndots:0\n"
    resolver = world.plumber.resolvers[CONTAINER]
    assert (resolver.servers, resolver.aliases) == (["192.0.2.1"], {"db": "postgres"})
    [made] = world.plumber.endpoints()
    assert made.endpoint.names == ["web", "www", "c" * 12]
    domains = {bridge.name[:3]: bridge.domain for bridge in world.plumber.bridges.values()}
    assert domains == {"sam": "", "br-": "backend"}


def test_a_renamed_container_is_found_by_its_new_name(world: World) -> None:
    create(world, "backend")
    connect(world, wish(mode="backend"))
    world.run(world.networks.rename(CONTAINER, "shop"))
    [made] = world.plumber.endpoints()
    assert made.endpoint.names == ["shop", "c" * 12, "web"]  # its hostname


def test_of_several_networks_one_has_the_default_route(world: World) -> None:
    create(world, "alpha")
    create(world, "beta")
    asked = wish(mode="beta", endpoints={"alpha": None, "beta": EndpointSettings(gw_priority=1)})
    shown = connect(world, asked).settings.networks
    assert (shown["alpha"].gateway, shown["beta"].gateway) == ("172.18.0.1", "172.19.0.1")
    routes = {made.endpoint.interface: made.endpoint.gateway for made in world.plumber.endpoints()}
    assert routes == {"eth0": "172.19.0.1", "eth1": ""}


def test_default_route_and_ports_follow_the_networks_of_a_running_container(world: World) -> None:
    for name in ("alpha", "beta"):
        create(world, name)
    create(world, "inside", internal=True)
    bindings = {"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8080")]}
    asked = wish(mode="beta", port_bindings=bindings)
    connect(world, asked)

    def state() -> dict[str, tuple[str, int]]:
        return {
            made.endpoint.interface: (made.endpoint.gateway, len(made.ports))
            for made in world.plumber.endpoints()
        }

    with Fd(os.open("/dev/null", os.O_RDONLY)) as namespace:
        for name in ("inside", "alpha"):
            world.run(world.networks.join(asked, name, None, namespace))
        # alpha comes first by name; no route leads through an internal network.
        assert state() == {"eth0": ("", 0), "eth1": ("", 0), "eth2": ("172.18.0.1", 1)}
        world.run(world.networks.leave(CONTAINER, "alpha", namespace))
        assert state() == {"eth0": ("172.19.0.1", 1), "eth1": ("", 0)}
        first = EndpointSettings(gw_priority=5)
        world.run(world.networks.join(asked, "alpha", first, namespace))
        assert state()["eth2"] == ("172.18.0.1", 1)
        world.run(world.networks.leave(CONTAINER, "beta", namespace))
        assert state() == {"eth1": ("", 0), "eth2": ("172.18.0.1", 1)}
        world.run(world.networks.join(asked, "beta", None, namespace))
        assert state()["eth0"] == ("", 0)  # the first free name
    shown = world.networks.settings(CONTAINER)
    assert shown
    assert shown.ports == {"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8080")]}


def test_a_running_container_joins_and_leaves_a_network(world: World) -> None:
    create(world, "backend")
    connect(world, wish())
    with Fd(os.open("/dev/null", os.O_RDONLY)) as namespace:
        world.run(world.networks.join(wish(), "backend", None, namespace))
        with pytest.raises(Forbidden, match="already exists in network backend"):
            world.run(world.networks.join(wish(), "backend", None, namespace))
        with pytest.raises(InvalidArgument, match="host network"):
            world.run(world.networks.join(wish(), "host", None, namespace))
    settings = world.networks.settings(CONTAINER)
    assert settings is not None
    assert set(settings.networks) == {"bridge", "backend"}
    with Fd(os.open("/dev/null", os.O_RDONLY)) as namespace:
        world.run(world.networks.leave(CONTAINER, "backend", namespace))
        with pytest.raises(Forbidden, match="is not connected to network backend"):
            world.run(world.networks.leave(CONTAINER, "backend", namespace))


def test_a_cancelled_start_leaves_no_endpoint_and_no_descriptor(world: World) -> None:
    async def start_and_cancel() -> None:
        task = asyncio.create_task(world.networks.connect(wish()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    connect(world, wish(container_id="d" * 64))
    before = len(os.listdir("/proc/self/fd"))
    world.run(start_and_cancel())
    assert len(world.plumber.made) == 1
    assert len(os.listdir("/proc/self/fd")) == before
    assert connect(world, wish()).settings.networks["bridge"].ip_address


def test_ports_of_a_running_container_come_and_go(world: World) -> None:
    connect(world, wish(port_bindings={"80/tcp": [PortBinding(host_port="8080")]}))

    def shown() -> dict[str, list[str] | None]:
        settings = world.networks.settings(CONTAINER)
        assert settings
        return {
            port: [f"{it.host_ip} {it.host_port}" for it in found] if found else None
            for port, found in settings.ports.items()
        }

    more = {"81/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8081")]}
    world.run(world.networks.publish(CONTAINER, more, []))
    assert shown() == {"80/tcp": ["0.0.0.0 8080", ":: 8080"], "81/tcp": ["127.0.0.1 8081"]}
    world.run(world.networks.publish(CONTAINER, {}, [Unwanted.parse("8080:80")]))
    assert shown() == {"81/tcp": ["127.0.0.1 8081"]}
    world.plumber.refuses = Conflict("port is already allocated")
    with pytest.raises(Conflict):
        world.run(world.networks.publish(CONTAINER, more, []))
    assert shown() == {"81/tcp": ["127.0.0.1 8081"]}


def test_a_container_without_a_way_in_publishes_nothing(world: World) -> None:
    connect(world, wish(mode="none"))
    with pytest.raises(Conflict, match="is on no network that publishes ports"):
        world.run(world.networks.publish(CONTAINER, {"80/tcp": None}, []))
    world.run(world.networks.publish(CONTAINER, {}, [Unwanted.parse("80")]))
