"""The rules of networks, on a plumber that makes nothing."""

from __future__ import annotations

import os
from typing import Any

import pytest

from sampan.engine.networks.networks import NetworkOptions
from sampan.errors import (
    Conflict,
    Forbidden,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unsupported,
)
from sampan.network.plumber import BridgeSpec
from sampan.rpc import Fd
from sampan.spec.docker.networks import (
    IPAM,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    PortBinding,
)
from tests.unit.engine.network_world import (
    CONTAINER,
    World,
    connect,
    create,
    names,
    wish,
)

# --- the networks that are always there --------------------------------------------------------


def test_three_networks_are_always_there_and_keep_their_ids(world: World) -> None:
    before = {network.name: network.id for network in world.run(world.networks.list({}))}
    assert set(before) == {"bridge", "host", "none"}
    again = world.again()
    assert {it.name: it.id for it in world.run(again.list({}))} == before


def test_the_default_bridge_avoids_what_the_host_uses_and_stays_where_it_is(world: World) -> None:
    world.plumber.used = ("172.17.0.0/16",)
    world.again()
    [bridge] = world.plumber.bridges.values()
    assert (bridge.subnet, bridge.gateway) == ("172.18.0.0/16", "172.18.0.1")
    world.plumber.used = ()
    world.again()
    assert [it.subnet for it in world.plumber.bridges.values()] == ["172.18.0.0/16"]


def test_bip_decides_address_and_range(world: World) -> None:
    world.again(options=NetworkOptions(bip="10.5.0.9/24"))
    [bridge] = world.plumber.bridges.values()
    assert (bridge.subnet, bridge.gateway) == ("10.5.0.0/24", "10.5.0.9")


def test_a_bip_that_is_no_address_stops_the_start(world: World) -> None:
    with pytest.raises(InvalidArgument, match="bip"):
        world.again(options=NetworkOptions(bip="10.5.0.999/24"))


def test_without_a_default_bridge_the_rest_works(world: World) -> None:
    networks = world.again(options=NetworkOptions(bridge="none"))
    assert names(world) == ["host", "none"]
    with pytest.raises(NotFound, match="network bridge not found"):
        world.run(networks.connect(wish()))


def test_a_bridge_that_cannot_be_made_is_a_warning_and_an_error_when_used(world: World) -> None:
    def fail(bridge: BridgeSpec) -> None:
        raise Unsupported("no bridges in this kernel")

    world.plumber.ensure_network = fail  # type: ignore[method-assign]
    networks = world.again()
    assert networks.warnings == [
        "WARNING: the network bridge cannot be used: no bridges in this kernel"
    ]
    with pytest.raises(Unsupported):
        world.run(networks.connect(wish()))
    namespace = world.run(networks.connect(wish(mode="none"))).namespace
    assert namespace is not None
    namespace.close()


# --- containers ----------------------------------------------------------------------------------


def test_a_container_gets_address_gateway_and_files(world: World) -> None:
    connection = connect(world, wish(domainname="example.org"))
    shown = connection.settings.networks["bridge"]
    assert (shown.ip_address, shown.ip_prefix_len) == ("172.17.0.2", 16)
    assert (shown.gateway, shown.mac_address) == ("172.17.0.1", "02:42:ac:11:00:02")
    assert connection.settings.ip_address == "172.17.0.2"
    assert connection.files["hosts"].endswith(b"172.17.0.2\tweb.example.org web\n")
    assert connection.files["hostname"] == b"web\n"
    assert connection.files["resolv.conf"] == b"nameserver 192.0.2.53\n"
    assert world.events == [("connect", "bridge")]


def test_disconnecting_takes_everything_back(world: World) -> None:
    connect(world, wish())
    world.run(world.networks.disconnect(CONTAINER))
    world.run(world.networks.disconnect(CONTAINER))
    assert world.plumber.made == {}
    assert world.networks.settings(CONTAINER) is None
    assert world.events == [("connect", "bridge"), ("disconnect", "bridge")]


def test_published_ports_are_shown_with_the_ports_they_got(world: World) -> None:
    connection = connect(
        world,
        wish(port_bindings={"80/tcp": [PortBinding(host_port="8080")]}, exposed_ports=["81/tcp"]),
    )
    assert connection.settings.ports == {
        "80/tcp": [
            PortBinding(host_ip="0.0.0.0", host_port="8080"),
            PortBinding(host_ip="::", host_port="8080"),
        ],
        "81/tcp": None,
    }


def test_a_taken_port_fails_the_start_in_docker_s_words_and_leaves_nothing(world: World) -> None:
    world.plumber.refuses = Conflict("Bind for 0.0.0.0:80 failed: port is already allocated")
    asked = wish(port_bindings={"80/tcp": [PortBinding(host_port="80")]})
    with pytest.raises(
        Internal,
        match=r"^failed to set up container networking: driver failed programming external "
        r"connectivity on endpoint web \([0-9a-f]{64}\): Bind for 0\.0\.0\.0:80 failed: port is "
        r"already allocated$",
    ):
        world.run(world.networks.connect(asked))
    assert world.plumber.made == {}
    assert world.events == []
    world.plumber.refuses = None
    assert connect(world, asked).settings.networks["bridge"].ip_address


def test_host_none_and_another_container_s_network(world: World) -> None:
    host = connect(world, wish(mode="host"))
    assert host.namespace is None
    assert list(host.settings.networks) == ["host"]
    assert host.settings.ports == {}
    none = connect(world, wish(mode="none"))
    assert none.namespace is not None
    assert none.settings.networks["none"].ip_address == ""
    joined = connect(world, wish(mode=f"container:{'d' * 64}"))
    assert (joined.namespace, joined.files, joined.settings.networks) == (None, {}, {})


def test_a_network_switched_off_is_none(world: World) -> None:
    assert list(connect(world, wish(disabled=True)).settings.networks) == ["none"]


def test_extra_hosts_may_name_the_host_itself(world: World) -> None:
    files = connect(world, wish(extra_hosts=["up:host-gateway", "db:10.0.0.9"])).files
    assert b"172.17.0.1\tup\n10.0.0.9\tdb\n" in files["hosts"]


def test_an_unknown_network_is_not_found_when_the_container_starts(world: World) -> None:
    with pytest.raises(NotFound, match=r"^network nope not found$"):
        world.run(world.networks.connect(wish(mode="nope")))


def test_a_container_at_rest_shows_its_networks_without_addresses(world: World) -> None:
    shown = world.networks.settings_at_rest(wish()).networks
    assert shown["bridge"].ip_address == ""
    assert shown["bridge"].network_id


def test_a_restarted_daemon_finds_addresses_and_ports_and_drops_the_rest(world: World) -> None:
    asked = wish(port_bindings={"80/tcp": [PortBinding(host_port="80")]})
    before = connect(world, asked).settings
    connect(world, wish(container_id="d" * 64, name="gone"))
    networks = world.again(asked)
    assert networks.settings(CONTAINER) == before
    assert len(world.plumber.made) == 1
    other = connect(world, wish(container_id="e" * 64))
    assert other.settings.networks["bridge"].ip_address != before.networks["bridge"].ip_address


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"extra_hosts": ["x"]}, "bad format for add-host"),
        ({"port_bindings": {"x/tcp": []}}, "invalid port range"),
        ({"mac_address": "zz"}, "invalid MAC address: zz"),
        ({"mode": "container:"}, "invalid container format"),
        ({"mode": "container:a", "dns": ["1.1.1.1"]}, "dns and the network mode"),
        ({"mode": "container:a", "publish_all": True}, "port publishing and the container type"),
        (
            {"endpoints": {"bridge": EndpointSettings(aliases=["db"])}},
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (
            {
                "endpoints": {
                    "bridge": EndpointSettings(
                        ipam_config=EndpointIPAMConfig(ipv4_address="172.17.0.9")
                    )
                }
            },
            "user-specified IP address is supported on user-defined networks only",
        ),
    ],
)
def test_what_can_never_work_is_refused_at_create(
    world: World, more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        world.run(world.networks.check(wish(**more)))


def test_ports_on_the_host_s_network_are_a_warning(world: World) -> None:
    asked = wish(mode="host", port_bindings={"80/tcp": [PortBinding(host_port="80")]})
    assert world.run(world.networks.check(asked)) == [
        "Published ports are discarded when using host network mode"
    ]


# --- networks of users -----------------------------------------------------------------------


def test_a_network_of_a_user_is_a_bridge_with_a_range_of_its_own(world: World) -> None:
    made = create(world, "backend", labels={"a": "b"})
    bridge = world.plumber.bridges[made]
    assert (bridge.name, bridge.subnet) == (f"br-{made[:12]}", "172.18.0.0/16")
    shown = world.run(world.networks.inspect("backend"))
    assert shown.ipam.config == [IPAMConfig(subnet="172.18.0.0/16", gateway="172.18.0.1")]
    assert shown.labels == {"a": "b"}
    assert world.events == [("create", "backend")]


def test_a_network_is_found_by_name_id_and_prefix(world: World) -> None:
    made = create(world, "backend")
    for reference in ("backend", made, made[:12]):
        assert world.run(world.networks.inspect(reference)).id == made
    with pytest.raises(NotFound, match="network x not found"):
        world.run(world.networks.inspect("x"))
    with pytest.raises(NotFound):
        world.run(world.networks.inspect(""))


def test_names_are_unique_and_predefined_ones_are_taken(world: World) -> None:
    create(world, "backend")
    with pytest.raises(Conflict, match="network with name backend already exists"):
        create(world, "backend")
    with pytest.raises(Forbidden, match="operation is not permitted on predefined host network"):
        create(world, "host")


@pytest.mark.parametrize(
    ("more", "error", "sentence"),
    [
        ({"name": ""}, InvalidArgument, "name is empty"),
        ({"name": "a\nb"}, InvalidArgument, "invalid network name"),
        ({"name": "n" * 254}, InvalidArgument, "invalid network name"),
        ({"driver": "overlay"}, Forbidden, "This node is not a swarm manager"),
        ({"ingress": True}, Forbidden, "Ingress network can only be global scope network"),
        ({"scope": "swarm"}, Forbidden, "when swarm is not active"),
        ({"scope": "global"}, InvalidArgument, "invalid scope of a network: global"),
        ({"driver": "nope"}, NotFound, "could not find plugin nope in v1 plugin registry"),
        ({"driver": "macvlan", "options": {"parent": "lo"}}, Internal, "macvlan parent link"),
        ({"enable_ipv4": False}, Unsupported, "networks without IPv4 are not supported"),
        ({"subnet": "10.0.0.1/8"}, InvalidArgument, "invalid subnet 10.0.0.1/8: it should be 10."),
        (
            {"ipam": IPAM(config=[IPAMConfig(subnet=f"10.{it}.0.0/16") for it in (1, 2)])},
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            {"options": {"com.docker.network.bridge.host_binding_ipv4": "here"}},
            InvalidArgument,
            "failed to parse com.docker.network.bridge.host_binding_ipv4 value: here",
        ),
        (
            {"options": {"com.docker.network.bridge.gateway_mode_ipv6": "frob"}},
            InvalidArgument,
            "unknown gateway mode frob",
        ),
        (
            {"options": {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}},
            InvalidArgument,
            "gateway mode 'isolated' can only be used for an internal network",
        ),
        ({"subnet": "172.17.5.0/24"}, Forbidden, "Pool overlaps with other one"),
        ({"options": {"com.docker.network.driver.mtu": "x"}}, InvalidArgument, "MTU"),
        ({"options": {"com.docker.network.bridge.name": "a b"}}, InvalidArgument, "bridge name"),
    ],
)
def test_requests_that_cannot_work_are_refused_and_leave_nothing(
    world: World, more: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        create(world, **{"name": "backend", **more})
    assert names(world) == ["host", "none", "bridge"]
    assert len(world.plumber.bridges) == 1


def test_routed_ports_have_no_port_of_the_host_and_move_as_what_they_are(world: World) -> None:
    create(world, "own", options={"com.docker.network.bridge.gateway_mode_ipv4": "routed"})
    create(world, "plain", subnet="10.0.0.0/24")
    asked = wish(mode="own", port_bindings={"80/tcp": [PortBinding(host_port="8080")]})
    shown = connect(world, asked).settings.ports
    assert shown == {
        "80/tcp": [
            PortBinding(host_ip="0.0.0.0", host_port=""),
            PortBinding(host_ip="::", host_port="8080"),
        ]
    }
    with Fd(os.open("/dev/null", os.O_RDONLY)) as namespace:
        first = EndpointSettings(gw_priority=1)
        world.run(world.networks.join(asked, "plain", first, namespace))
    moved = world.networks.settings(CONTAINER)
    assert moved is not None
    assert [one.host_port for one in moved.ports["80/tcp"] or ()] == ["8080", "8080"]


def test_a_network_in_use_is_not_removed_and_says_by_whom(world: World) -> None:
    create(world, "backend")
    connect(world, wish(mode="backend"))
    with pytest.raises(
        Forbidden, match=r'network backend has active endpoints \(name:"web" id:"[0-9a-f]{12}"\)'
    ):
        world.run(world.networks.remove("backend"))
    assert world.run(world.networks.prune({})).networks_deleted is None
    world.run(world.networks.disconnect(CONTAINER))
    assert world.run(world.networks.prune({})).networks_deleted == ["backend"]
    assert names(world) == ["host", "none", "bridge"]


def test_predefined_networks_are_not_removed(world: World) -> None:
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        world.run(world.networks.remove("bridge"))


def test_inspect_names_the_containers_with_their_prefix_length(world: World) -> None:
    connect(world, wish())
    [found] = world.run(world.networks.inspect("bridge")).containers.values()
    assert (found.name, found.ipv4_address) == ("web", "172.17.0.2/16")
    world.run(world.networks.rename(CONTAINER, "shop"))
    [found] = world.run(world.networks.inspect("bridge")).containers.values()
    assert found.name == "shop"


def test_lists_are_filtered(world: World) -> None:
    create(world, "backend", labels={"stage": "test"})
    assert names(world, driver=["bridge"]) == ["bridge", "backend"]
    assert names(world, type=["custom"]) == ["backend"]
    assert names(world, name=["back"]) == ["backend"]
    assert names(world, label=["stage=test"]) == ["backend"]
    assert names(world, dangling=["true"]) == ["backend"]
    assert names(world, scope=["global"]) == []
    with pytest.raises(InvalidArgument):
        names(world, nonsense=["x"])
    with pytest.raises(InvalidArgument):
        names(world, type=["x"])


def test_prune_goes_by_age_and_label(world: World) -> None:
    create(world, "old", labels={"keep": "1"})
    for until in ("1h", "0"):
        assert world.run(world.networks.prune({"until": [until]})).networks_deleted is None
    assert world.run(world.networks.prune({"label!": ["keep"]})).networks_deleted is None
    assert world.run(world.networks.prune({"label": ["keep=1"]})).networks_deleted == ["old"]
    with pytest.raises(InvalidArgument):
        world.run(world.networks.prune({"until": ["yesterday"]}))


def test_what_a_dead_helper_did_not_take_back_is_taken_back_later(world: World) -> None:
    world.run(world.networks.connect(wish()))
    world.plumber.is_gone = True
    with pytest.raises(Unavailable):
        world.run(world.networks.disconnect(CONTAINER))
    assert len(world.plumber.made) == 1
    world.plumber.is_gone = False
    world.run(world.networks.connect(wish(container_id="d" * 64)))
    assert [made.endpoint.container_id for made in world.plumber.made.values()] == ["d" * 64]


@pytest.mark.parametrize(
    ("ip_range", "gateway", "first"),
    [
        ("10.9.5.0/24", "10.9.5.0", "10.9.5.1"),
        ("10.9.0.0/24", "10.9.0.1", "10.9.0.2"),
        ("", "10.9.0.1", "10.9.0.2"),
    ],
)
def test_the_first_address_of_a_range_is_the_gateway_s_as_in_docker(
    world: World, ip_range: str, gateway: str, first: str
) -> None:
    config = IPAMConfig(subnet="10.9.0.0/16", ip_range=ip_range)
    create(world, "backend", ipam=IPAM(config=[config]))
    [shown] = world.run(world.networks.inspect("backend")).ipam.config or []
    assert shown.gateway == gateway
    settings = connect(world, wish(mode="backend")).settings.networks["backend"]
    assert settings.ip_address == first
