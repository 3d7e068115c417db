"""The same traffic with rules of iptables, and rules as Docker's."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sampan import rpc
from sampan.errors import Internal
from sampan.network.plumber import BridgeSpec, EndpointSpec, Plumber, PortMapping
from tests.netns import (
    HOST,
    HOST6,
    NEIGHBOUR,
    NEIGHBOUR6,
    ask_tcp,
    hosts,
    route_through_host,
    tcp_server,
)
from tests.plumbed import Plumbed
from tests.privileged.test_network_traffic import (
    _answers,
    filtering,
    test_a_container_does_not_reach_the_loopback_of_the_host,
    test_a_container_reaches_out_and_is_seen_as_the_host,
    test_a_port_on_127_0_0_1_answers_only_the_host,
    test_a_port_that_is_taken_back_is_free_and_the_others_answer,
    test_a_published_tcp_port_answers_from_everywhere,
    test_a_published_udp_port_answers_from_the_address_that_was_asked,
    test_an_internal_network_has_no_way_out,
    test_an_ipv6_address_of_the_host_leads_to_a_container_of_ipv4,
    test_containers_reach_one_another_and_see_the_real_address,
    test_ports_that_are_not_published_are_closed_to_a_neighbour_who_has_a_route,
    test_the_default_route_moves_to_another_network,
    test_without_inter_container_linked_containers_reach_linked_ports,
    test_without_inter_container_only_published_ports_are_reached,
)
from tests.session import PATIENCE, eventually

__all__ = [
    "filtering",
    "test_a_container_does_not_reach_the_loopback_of_the_host",
    "test_a_container_reaches_out_and_is_seen_as_the_host",
    "test_a_port_on_127_0_0_1_answers_only_the_host",
    "test_a_port_that_is_taken_back_is_free_and_the_others_answer",
    "test_a_published_tcp_port_answers_from_everywhere",
    "test_a_published_udp_port_answers_from_the_address_that_was_asked",
    "test_an_internal_network_has_no_way_out",
    "test_an_ipv6_address_of_the_host_leads_to_a_container_of_ipv4",
    "test_containers_reach_one_another_and_see_the_real_address",
    "test_ports_that_are_not_published_are_closed_to_a_neighbour_who_has_a_route",
    "test_the_default_route_moves_to_another_network",
    "test_without_inter_container_linked_containers_reach_linked_ports",
    "test_without_inter_container_only_published_ports_are_reached",
]

pytestmark = pytest.mark.privileged


def iptables(*arguments: str, program: str = "iptables") -> str:
    done = subprocess.run(
        [program, *arguments], check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    return done.stdout


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Plumbed]:
    with hosts() as here, ExitStack() as stack:
        world = Plumbed(here, _helper(tmp_path, stack), tmp_path / "state", stack)
        world.bridge()
        yield world


def _helper(folder: Path, stack: ExitStack, firewall: str = "iptables") -> Plumber:
    arguments = [str(folder / "state"), f"firewall={firewall}"]
    sock, process = rpc.start("sampan.helpers.network", arguments)
    stack.callback(process.wait, PATIENCE)
    stack.enter_context(sock)
    return rpc.connect(Plumber, sock, PATIENCE)  # type: ignore[type-abstract]


def test_rules_are_shown_as_docker_s(world: Plumbed) -> None:
    world.container(2)
    world.publish(2, 8080, 80)
    nat = iptables("-t", "nat", "-nL")
    assert "Chain DOCKER (2 references)" in nat
    assert "tcp dpt:8080 to:172.30.0.2:80" in nat
    assert re.search(r"MASQUERADE +(0|all) +-- +172\.30\.0\.0/16 +0\.0\.0\.0/0", nat)
    head = iptables("-S", "FORWARD").splitlines()[1:3]
    assert [line.split()[-1] for line in head] == ["DOCKER-USER", "DOCKER-FORWARD"]
    assert "tcp dpt:80" in iptables("-nL", "DOCKER")


def test_the_administrator_s_rules_come_first_and_are_never_lost(world: Plumbed) -> None:
    server = world.container(2)
    world.publish(2, 8080, 80)
    iptables("-I", "DOCKER-USER", "-s", NEIGHBOUR, "-j", "DROP")
    iptables("-A", "FORWARD", "-s", "192.0.2.0/24", "-j", "ACCEPT")
    iptables("-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.0/24", "-j", "MASQUERADE")
    world.bridge()  # writes all rules anew
    world.bridge(29)
    with tcp_server(server.number, 80):
        assert not _answers(world, 8080)
        assert ask_tcp(world.here.host, HOST, 8080)
        iptables("-D", "DOCKER-USER", "-s", NEIGHBOUR, "-j", "DROP")
        assert ask_tcp(world.here.neighbour, HOST, 8080) == NEIGHBOUR
    for number in (30, 29):
        world.plumber.remove_network(f"net{number}")
    saved = iptables(program="iptables-save")
    assert "-A FORWARD -s 192.0.2.0/24 -j ACCEPT" in saved
    assert "-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE" in saved
    # What stays is that the host's interfaces do not forward to one another.
    assert "br30" not in saved
    assert "br29" not in saved
    assert "-A DOCKER-USER -j RETURN" in saved


def test_ports_are_reached_where_forward_drops(world: Plumbed) -> None:
    iptables("-P", "FORWARD", "DROP")
    server = world.container(2)
    world.publish(2, 8080, 80)
    with tcp_server(server.number, 80), tcp_server(world.here.neighbour, 81):
        assert ask_tcp(world.here.neighbour, HOST, 8080) == NEIGHBOUR
        assert ask_tcp(server.number, NEIGHBOUR, 81) == HOST


def test_networks_are_apart_but_for_published_ports(world: Plumbed) -> None:
    world.bridge(29)
    server, foreign = world.container(2), world.container(2, network=29)
    world.publish(2, 8080, 80)
    with tcp_server(server.number, 80):
        assert ask_tcp(foreign.number, HOST, 8080)
        with pytest.raises(OSError):
            ask_tcp(foreign.number, "172.30.0.2", 80, timeout=0.3)


@pytest.mark.parametrize(
    "reload",
    [
        "iptables -F FORWARD",
        "iptables -t nat -F DOCKER",
        "iptables -t nat -F POSTROUTING",
        "nft flush ruleset",
    ],
)
def test_rules_that_a_reload_took_are_written_anew(world: Plumbed, reload: str) -> None:
    server = world.container(2)
    world.publish(2, 8080, 80)
    before = sorted(iptables("-S") + iptables("-t", "nat", "-S"))
    subprocess.run(reload.split(), check=True, timeout=PATIENCE)
    with tcp_server(server.number, 80):
        eventually(lambda: _answers(world, 8080))

        def is_restored() -> bool:
            return sorted(iptables("-S") + iptables("-t", "nat", "-S")) == before

        eventually(is_restored)


def test_published_ports_answer_on_ipv6(world: Plumbed) -> None:
    spec = BridgeSpec(
        network_id="six",
        name="br6",
        subnet="172.28.0.0/16",
        gateway="172.28.0.1",
        subnet6="fd00:28::/64",
        gateway6="fd00:28::1",
    )
    world.plumber.ensure_network(spec)
    made = EndpointSpec(
        endpoint_id="six-2",
        network_id="six",
        address="172.28.0.2/16",
        address6="fd00:28::2/64",
        mac_address="02:42:ac:1c:00:02",
        gateway="172.28.0.1",
        gateway6="fd00:28::1",
    )
    server = world.stack.enter_context(world.plumber.attach(made))
    port = PortMapping(protocol="tcp", host_address="::", host_port=8080, container_port=80)
    world.plumber.publish("six-2", [port])
    with tcp_server(server.number, 80), tcp_server(world.here.neighbour, 81):
        assert ask_tcp(world.here.neighbour, HOST6, 8080) == NEIGHBOUR6
        assert ask_tcp(world.here.host, "::1", 8080) == "172.28.0.1"
        assert ask_tcp(server.number, NEIGHBOUR6, 81) == HOST6
        route_through_host(world.here.neighbour)
        with pytest.raises(OSError):
            ask_tcp(world.here.neighbour, "fd00:28::2", 80, timeout=0.3)


def test_chains_of_another_engine_are_left_alone(tmp_path: Path) -> None:
    with hosts() as here, ExitStack() as stack:
        iptables("-t", "nat", "-N", "DOCKER")
        iptables("-t", "nat", "-A", "DOCKER", "-i", "docker0", "-j", "RETURN")
        before = iptables("-t", "nat", "-S")
        world = Plumbed(here, _helper(tmp_path, stack), tmp_path, stack)
        with pytest.raises(Internal, match="belongs to another engine"):
            world.bridge()
        assert iptables("-t", "nat", "-S") == before


def test_rules_of_the_back_end_before_are_removed(tmp_path: Path) -> None:
    with hosts() as here:
        for firewall in ("iptables", "nftables", "none", "iptables", "none"):
            with ExitStack() as stack:
                world = Plumbed(here, _helper(tmp_path, stack, firewall), tmp_path, stack)
                world.bridge()
                has_table = b"table inet sampan" in subprocess.run(
                    ["nft", "list", "tables"], check=True, capture_output=True, timeout=PATIENCE
                ).stdout  # fmt: skip
                assert has_table == (firewall == "nftables")
                has_chains = "sampan" in iptables(program="iptables-save")
                assert has_chains == (firewall == "iptables")
