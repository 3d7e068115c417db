"""IPv6 packets between containers, host and another machine, each a network namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sampan import rpc
from sampan.errors import Conflict
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.plumber import BridgeSpec, EndpointSpec, Plumber
from sampan.network.sandbox import inside, read_sysctl, write_sysctl
from tests.netns import (
    HOST,
    HOST6,
    NEIGHBOUR,
    NEIGHBOUR6,
    ask_tcp,
    ask_udp,
    hosts,
    links,
    route_through_host,
    tcp_server,
    udp_server,
)
from tests.plumbed import Plumbed6
from tests.session import PATIENCE

pytestmark = pytest.mark.privileged

GATEWAY6 = "fd00:30::1"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Plumbed6]:
    with Plumbed6.on_a_host(tmp_path) as made:
        yield made


def test_a_container_reaches_out_and_is_seen_as_the_host(world: Plumbed6) -> None:
    container = world.container(2)
    with tcp_server(world.here.neighbour, 80), udp_server(world.here.neighbour, 53):
        assert ask_tcp(container.number, NEIGHBOUR6, 80) == HOST6
        assert ask_udp(container.number, NEIGHBOUR6, 53) == HOST6
        assert ask_tcp(container.number, NEIGHBOUR, 80) == HOST


def test_containers_reach_one_another_and_the_gateway(world: Plumbed6) -> None:
    one, two = world.container(2), world.container(3)
    with tcp_server(two.number, 80), tcp_server(world.here.host, 81):
        assert ask_tcp(one.number, "fd00:30::3", 80) == "fd00:30::2"
        assert ask_tcp(one.number, GATEWAY6, 81) == "fd00:30::2"


def test_a_container_without_an_ipv6_address_has_no_ipv6(world: Plumbed6) -> None:
    container = world.container(2, address6="", gateway6="")
    with inside(container.number), RouteSocket() as netlink:
        assert read_sysctl("ipv6/conf/eth0/disable_ipv6") == "1"
        link = netlink.link("eth0")
        assert link
        assert link.index not in [index for index, _ in netlink.addresses6()]


def test_a_published_port_answers_from_everywhere(world: Plumbed6) -> None:
    server, client = world.container(2), world.container(3)
    world.publish(2, 8080, 80)
    world.publish(2, 5353, 53, "udp")
    host, neighbour = world.here.host, world.here.neighbour
    with tcp_server(server.number, 80), udp_server(server.number, 53):
        assert ask_tcp(neighbour, HOST6, 8080) == NEIGHBOUR6  # the client's address is preserved
        assert ask_udp(neighbour, HOST6, 5353) == NEIGHBOUR6
        assert ask_tcp(host, HOST6, 8080) == HOST6
        assert ask_tcp(client.number, HOST6, 8080)  # hairpin
        assert ask_tcp(server.number, HOST6, 8080)  # its own published port
        assert ask_tcp(host, "::1", 8080) == "172.30.0.1"  # a relay
        assert ask_udp(host, "::1", 5353) == "172.30.0.1"
        world.plumber.detach("e30-2")
        with pytest.raises(OSError):
            ask_tcp(neighbour, HOST6, 8080, timeout=0.3)


def test_a_port_on_one_address_answers_there_only(world: Plumbed6) -> None:
    server = world.container(2)
    world.publish(2, 8080, 80, address=HOST6)
    with tcp_server(server.number, 80):
        assert ask_tcp(world.here.neighbour, HOST6, 8080) == NEIGHBOUR6
        with pytest.raises(OSError):
            ask_tcp(world.here.host, "::1", 8080, timeout=0.3)
    with pytest.raises(Conflict, match="port is already allocated"):
        world.publish(2, 8080, 81)


def test_a_container_of_ipv4_only_is_reached_by_a_relay(world: Plumbed6) -> None:
    server = world.container(2, address6="", gateway6="")
    world.publish(2, 8080, 80)
    with tcp_server(server.number, 80):
        assert ask_tcp(world.here.neighbour, HOST6, 8080) == "172.30.0.1"


def test_what_is_not_published_is_closed_to_a_neighbour_who_has_a_route(world: Plumbed6) -> None:
    server = world.container(2)
    route_through_host(world.here.neighbour)
    with tcp_server(server.number, 80):
        with pytest.raises(OSError):
            ask_tcp(world.here.neighbour, "fd00:30::2", 80, timeout=0.3)


def test_networks_are_apart_and_internal_ones_have_no_way_out(world: Plumbed6) -> None:
    world.bridge(29, internal=True)
    one, two = world.container(2, 29), world.container(3, 29)
    server = world.container(2)
    with tcp_server(world.here.neighbour, 80), tcp_server(two.number, 80):
        with tcp_server(server.number, 81):
            for address, port in ((NEIGHBOUR6, 80), ("fd00:30::2", 81)):
                with pytest.raises(OSError):
                    ask_tcp(one.number, address, port, timeout=0.3)
        assert ask_tcp(one.number, "fd00:29::3", 80) == "fd00:29::2"


def test_without_masquerading_packets_keep_their_address(world: Plumbed6) -> None:
    world.bridge(masquerade=False)
    route_through_host(world.here.neighbour)
    container = world.container(2)
    with tcp_server(world.here.neighbour, 80):
        assert ask_tcp(container.number, NEIGHBOUR6, 80) == "fd00:30::2"


def test_without_inter_container_traffic_only_published_ports_are_reached(world: Plumbed6) -> None:
    world.bridge(inter_container=False)
    one, two = world.container(2), world.container(3)
    world.publish(3, 8080, 80)
    with tcp_server(two.number, 80), tcp_server(two.number, 81):
        with pytest.raises(OSError):
            ask_tcp(one.number, "fd00:30::3", 81, timeout=0.3)
        assert ask_tcp(one.number, HOST6, 8080)


def test_the_default_route_moves_to_another_network(world: Plumbed6) -> None:
    world.bridge(29, masquerade=False)
    route_through_host(world.here.neighbour)
    container = world.container(2)
    other = EndpointSpec(
        endpoint_id="e29-2",
        network_id="net29",
        address="172.29.0.2/16",
        address6="fd00:29::2/64",
        mac_address="02:42:ac:1d:00:02",
        gateway="",
        interface="eth1",
    )
    world.plumber.attach(other, container).close()
    with tcp_server(world.here.neighbour, 80):
        assert ask_tcp(container.number, NEIGHBOUR6, 80) == HOST6
        world.plumber.route("e29-2", "172.29.0.1", "fd00:29::1", container)
        world.plumber.route("e30-2", "", "", container)
        assert ask_tcp(container.number, NEIGHBOUR6, 80) == "fd00:29::2"
        world.plumber.detach("e29-2")
        world.plumber.route("e30-2", "172.30.0.1", GATEWAY6, container)
        assert ask_tcp(container.number, NEIGHBOUR6, 80) == HOST6


def test_the_host_listens_to_routers_further_on_and_routes_for_nobody_else(tmp_path: Path) -> None:
    with hosts(), ExitStack() as stack:
        write_sysctl("ipv4/ip_forward", "1")
        assert read_sysctl("ipv6/conf/uplink0/accept_ra") == "1"
        sock, process = rpc.start("sampan.helpers.network", [str(tmp_path / "state")])
        stack.callback(process.wait, PATIENCE)
        stack.enter_context(sock)
        Plumbed6(stack, rpc.connect(Plumber, sock, PATIENCE), tmp_path, stack).bridge()  # type: ignore[arg-type]
        assert read_sysctl("ipv6/conf/all/forwarding") == "1"
        assert read_sysctl("ipv6/conf/uplink0/accept_ra") == "2"
        text = (tmp_path / "state" / "forwarding.json").read_text()
        assert text == '{"uplinks":[],"uplinks6":["uplink0"]}'


def test_a_bridge_follows_its_specification(world: Plumbed6) -> None:
    with RouteSocket() as netlink:
        link = netlink.link("br30")
        assert link

        def addresses() -> set[str]:
            return {str(it) for index, it in netlink.addresses6() if index == link.index}

        assert addresses() == {"fd00:30::1/64", "fe80::1/64"}
        plain = BridgeSpec(
            network_id="net30", name="br30", subnet="172.30.0.0/16", gateway="172.30.0.1"
        )
        world.plumber.ensure_network(plain)
        assert addresses() == set()
    world.plumber.remove_network("net30")
    assert "br30" not in links()
