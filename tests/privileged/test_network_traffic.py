"""Real packets between containers, host and another machine, each a network namespace."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sampan import rpc
from sampan.helpers.network import NEEDED
from sampan.linux import capabilities
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.plumber import BridgeSpec, EndpointSpec, Peer, Plumber, PortMapping
from sampan.network.sandbox import inside, read_sysctl, write_sysctl
from tests.netns import (
    HOST,
    NEIGHBOUR,
    ask_tcp,
    ask_udp,
    hosts,
    links,
    route_through_host,
    tcp_server,
    udp_server,
)
from tests.plumbed import Plumbed
from tests.session import PATIENCE, eventually

pytestmark = pytest.mark.privileged

GATEWAY = "172.30.0.1"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Plumbed]:
    with Plumbed.on_a_host(tmp_path) as made:
        yield made


def test_a_container_reaches_out_and_is_seen_as_the_host(world: Plumbed) -> None:
    container = world.container(2)
    with tcp_server(world.here.neighbour, 80), udp_server(world.here.neighbour, 53):
        assert ask_tcp(container.number, NEIGHBOUR, 80) == HOST
        assert ask_udp(container.number, NEIGHBOUR, 53) == HOST


def test_a_bridge_that_somebody_else_removes_is_made_anew_with_its_ports(world: Plumbed) -> None:
    old = world.container(2)
    world.publish(2, 8080, 80)
    subprocess.run(["ip", "link", "del", "br30"], check=True, timeout=PATIENCE)
    new = world.container(3)
    with tcp_server(old.number, 80):
        assert ask_tcp(new.number, "172.30.0.2", 80) == "172.30.0.3"
        assert ask_tcp(world.here.neighbour, HOST, 8080) == NEIGHBOUR


def test_containers_reach_one_another_and_see_the_real_address(world: Plumbed) -> None:
    one, two = world.container(2), world.container(3)
    with tcp_server(two.number, 80):
        assert ask_tcp(one.number, "172.30.0.3", 80) == "172.30.0.2"


@pytest.fixture(params=["0", "1"], ids=["bridged", "br_netfilter"])
def filtering(request: pytest.FixtureRequest, world: Plumbed) -> None:
    """Whether packets between the ports of a bridge pass through the firewall."""
    if Path("/proc/sys/net/bridge").exists():
        write_sysctl("bridge/bridge-nf-call-iptables", request.param)


@pytest.mark.usefixtures("filtering")
def test_a_published_tcp_port_answers_from_everywhere(world: Plumbed) -> None:
    server, client = world.container(2), world.container(3)
    world.publish(2, 8080, 80)
    host, neighbour = world.here.host, world.here.neighbour
    with tcp_server(server.number, 80):
        assert ask_tcp(neighbour, HOST, 8080) == NEIGHBOUR  # the client's address is preserved
        assert ask_tcp(host, "127.0.0.1", 8080) == GATEWAY
        assert ask_tcp(host, HOST, 8080) == HOST
        assert ask_tcp(host, GATEWAY, 8080) == GATEWAY
        assert ask_tcp(client.number, HOST, 8080)  # hairpin
        assert ask_tcp(server.number, HOST, 8080)  # its own published port
        assert ask_tcp(client.number, GATEWAY, 8080)


@pytest.mark.usefixtures("filtering")
def test_a_published_udp_port_answers_from_the_address_that_was_asked(world: Plumbed) -> None:
    server, client = world.container(2), world.container(3)
    world.publish(2, 5353, 53, "udp")
    with udp_server(server.number, 53):
        assert ask_udp(world.here.neighbour, HOST, 5353) == NEIGHBOUR
        assert ask_udp(world.here.host, "127.0.0.1", 5353) == GATEWAY
        assert ask_udp(client.number, HOST, 5353)
        assert ask_udp(server.number, HOST, 5353)


def test_a_port_on_127_0_0_1_answers_only_the_host(world: Plumbed) -> None:
    server = world.container(2)
    world.publish(2, 8080, 80, address="127.0.0.1")
    with tcp_server(server.number, 80):
        assert ask_tcp(world.here.host, "127.0.0.1", 8080) == GATEWAY
        with pytest.raises(OSError):
            ask_tcp(world.here.neighbour, HOST, 8080, timeout=0.3)


def test_a_port_of_another_network_s_container_answers_through_the_host(world: Plumbed) -> None:
    world.bridge(29)
    server, foreign = world.container(2), world.container(2, network=29)
    world.publish(2, 8080, 80)
    with tcp_server(server.number, 80):
        assert ask_tcp(foreign.number, HOST, 8080) == "172.29.0.2"
        with pytest.raises(OSError):  # but not directly: networks are apart
            ask_tcp(foreign.number, "172.30.0.2", 80, timeout=0.3)


def test_ports_that_are_not_published_are_closed_to_a_neighbour_who_has_a_route(
    world: Plumbed,
) -> None:
    server = world.container(2)
    route_through_host(world.here.neighbour)
    world.publish(2, 8080, 80)
    with tcp_server(server.number, 80):
        with pytest.raises(OSError):
            ask_tcp(world.here.neighbour, "172.30.0.2", 80, timeout=0.3)


def test_a_container_does_not_reach_the_loopback_of_the_host(world: Plumbed) -> None:
    container = world.container(2)
    with inside(container.number):
        subprocess.run(
            ["ip", "route", "add", "127.0.0.9/32", "via", GATEWAY], check=True, timeout=PATIENCE
        )
        write_sysctl("ipv4/conf/eth0/route_localnet", "1")
        subprocess.run(
            ["ip", "rule", "add", "pref", "0", "lookup", "main"], check=True, timeout=PATIENCE
        )
        subprocess.run(["ip", "rule", "del", "lookup", "local"], check=True, timeout=PATIENCE)
        subprocess.run(
            ["ip", "rule", "add", "pref", "10", "lookup", "local"], check=True, timeout=PATIENCE
        )
    with tcp_server(world.here.host, 6379):
        with pytest.raises(OSError):
            ask_tcp(container.number, "127.0.0.9", 6379, timeout=0.3)


def test_forwarding_works_where_iptables_drops(world: Plumbed) -> None:
    subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True, timeout=PATIENCE)
    world.bridge()  # at the daemon's start
    server = world.container(2)
    world.publish(2, 8080, 80)
    with tcp_server(server.number, 80), tcp_server(world.here.neighbour, 81):
        assert ask_tcp(world.here.neighbour, HOST, 8080) == NEIGHBOUR
        assert ask_tcp(server.number, NEIGHBOUR, 81) == HOST
    world.plumber.remove_network("net30")
    rules = subprocess.run(
        ["iptables", "-S", "FORWARD"], check=True, capture_output=True, timeout=PATIENCE
    )
    assert rules.stdout.split() == [b"-P", b"FORWARD", b"DROP"]


@pytest.mark.usefixtures("filtering")
def test_without_inter_container_only_published_ports_are_reached(world: Plumbed) -> None:
    world.bridge(inter_container=False)
    one, two = world.container(2), world.container(3)
    world.publish(3, 8080, 80)
    with tcp_server(two.number, 80), tcp_server(two.number, 81):
        with pytest.raises(OSError):
            ask_tcp(one.number, "172.30.0.3", 81, timeout=0.3)
        assert ask_tcp(one.number, HOST, 8080)


@pytest.mark.usefixtures("filtering")
def test_without_inter_container_linked_containers_reach_linked_ports(world: Plumbed) -> None:
    world.bridge(inter_container=False)
    one, two, other = (world.container(number) for number in (2, 3, 4))
    peers = [Peer(address="172.30.0.3", protocol="tcp", port=80)]
    world.plumber.link("e30-2", peers)
    with tcp_server(two.number, 80), tcp_server(two.number, 81), tcp_server(one.number, 80):
        assert ask_tcp(one.number, "172.30.0.3", 80) == "172.30.0.2"
        for client, address, port in (
            (one, "172.30.0.3", 81),
            (two, "172.30.0.2", 80),
            (other, "172.30.0.3", 80),
        ):
            with pytest.raises(OSError):
                ask_tcp(client.number, address, port, timeout=0.3)
        assert [made.peers for made in world.plumber.endpoints()] == [peers, [], []]
        world.plumber.link("e30-2", [])
        with pytest.raises(OSError):
            ask_tcp(one.number, "172.30.0.3", 80, timeout=0.3)
        world.plumber.link("e30-2", peers)
        world.plumber.detach("e30-2")
        again = world.container(2)  # another container gets the address, and not the way
        with pytest.raises(OSError):
            ask_tcp(again.number, "172.30.0.3", 80, timeout=0.3)


def test_an_internal_network_has_no_way_out(world: Plumbed) -> None:
    world.bridge(29, internal=True)
    one, two = world.container(2, 29), world.container(3, 29)
    with tcp_server(world.here.neighbour, 80), tcp_server(two.number, 80):
        with pytest.raises(OSError):
            ask_tcp(one.number, NEIGHBOUR, 80, timeout=0.3)
        assert ask_tcp(one.number, "172.29.0.3", 80) == "172.29.0.2"


def test_a_port_that_is_taken_back_is_free_and_the_others_answer(world: Plumbed) -> None:
    server = world.container(2)
    world.publish(2, 8080, 80)
    world.publish(2, 8081, 80)
    gone = PortMapping(protocol="tcp", host_address="0.0.0.0", host_port=8080, container_port=80)
    world.plumber.unpublish("e30-2", [gone])
    world.plumber.unpublish("e30-2", [gone])
    with tcp_server(server.number, 80):
        with pytest.raises(OSError):
            ask_tcp(world.here.neighbour, HOST, 8080, timeout=0.3)
        assert ask_tcp(world.here.neighbour, HOST, 8081) == NEIGHBOUR
    assert [len(made.ports) for made in world.plumber.endpoints()] == [1]
    with inside(world.here.host):
        socket.create_server(("0.0.0.0", 8080)).close()


def test_the_default_route_moves_to_another_network(world: Plumbed) -> None:
    world.bridge(29, masquerade=False)
    route_through_host(world.here.neighbour)
    container = world.container(2)
    other = EndpointSpec(
        endpoint_id="e29-2",
        network_id="net29",
        address="172.29.0.2/16",
        mac_address="02:42:ac:1d:00:02",
        gateway="",
        interface="eth1",
        more_addresses=["169.254.7.7/16"],
    )
    world.plumber.attach(other, container).close()
    with tcp_server(world.here.neighbour, 80):
        assert ask_tcp(container.number, NEIGHBOUR, 80) == HOST
        world.plumber.route("e29-2", "172.29.0.1", "", container)
        world.plumber.route("e30-2", "", "", container)
        assert ask_tcp(container.number, NEIGHBOUR, 80) == "172.29.0.2"
        world.plumber.detach("e29-2")
        with pytest.raises(OSError):
            ask_tcp(container.number, NEIGHBOUR, 80, timeout=0.3)
        world.plumber.route("e30-2", GATEWAY, "", container)
        assert ask_tcp(container.number, NEIGHBOUR, 80) == HOST


def test_a_link_local_address_answers_on_its_network(world: Plumbed) -> None:
    one, two = (
        world.stack.enter_context(
            world.plumber.attach(
                EndpointSpec(
                    endpoint_id=f"e30-{number}",
                    network_id="net30",
                    address=f"172.30.0.{number}/16",
                    mac_address=f"02:42:ac:1e:00:{number:02x}",
                    gateway=GATEWAY,
                    more_addresses=[f"169.254.0.{number}/16"],
                )
            )
        )
        for number in (2, 3)
    )
    with tcp_server(two.number, 80):
        assert ask_tcp(one.number, "169.254.0.3", 80) == "169.254.0.2"


def test_a_bridge_of_the_administrator_s_is_used_and_left_as_it_was(world: Plumbed) -> None:
    for line in ("add lan0 type bridge", "set lan0 address 02:00:00:00:00:77 alias mine"):
        subprocess.run(["ip", "link", *line.split()], check=True, timeout=PATIENCE)
    subprocess.run(
        ["ip", "addr", "add", "10.66.0.1/24", "dev", "lan0"], check=True, timeout=PATIENCE
    )
    show = ["ip", "-o", "addr", "show", "dev", "lan0"]
    before = subprocess.run(show, check=True, capture_output=True, timeout=PATIENCE).stdout
    assert world.plumber.foreign_bridge("lan0") == ["10.66.0.1/24"]
    assert world.plumber.foreign_bridge("uplink0") is None
    assert world.plumber.foreign_bridge("br30") is None
    spec = BridgeSpec(
        network_id="lan", name="lan0", subnet="10.66.0.0/24", gateway="10.66.0.1", foreign=True
    )
    world.plumber.ensure_network(spec)
    made = EndpointSpec(
        endpoint_id="lan-2",
        network_id="lan",
        address="10.66.0.2/24",
        mac_address="02:42:0a:42:00:02",
        gateway="10.66.0.1",
    )
    container = world.stack.enter_context(world.plumber.attach(made))
    with tcp_server(world.here.neighbour, 80):
        assert ask_tcp(container.number, NEIGHBOUR, 80) == HOST
    world.plumber.remove_network("lan")
    after = subprocess.run(show, check=True, capture_output=True, timeout=PATIENCE).stdout
    assert after.split()[:4] == before.split()[:4]
    assert b"alias mine" in subprocess.run(
        ["ip", "link", "show", "lan0"], check=True, capture_output=True, timeout=PATIENCE
    ).stdout  # fmt: skip


def test_without_firewall_rules_processes_serve_published_ports(tmp_path: Path) -> None:
    with hosts() as here, ExitStack() as stack:
        arguments = [str(tmp_path / "state"), "firewall=none"]
        sock, process = rpc.start("sampan.helpers.network", arguments)
        stack.callback(process.wait, PATIENCE)
        stack.enter_context(sock)
        world = Plumbed(here, rpc.connect(Plumber, sock, PATIENCE), tmp_path / "state", stack)
        world.bridge()
        server = world.container(2)
        world.publish(2, 8080, 80)
        world.publish(2, 5353, 53, "udp")
        listed = subprocess.run(
            ["nft", "list", "ruleset"], check=True, capture_output=True, timeout=PATIENCE
        )
        assert listed.stdout == b""
        with tcp_server(server.number, 80), udp_server(server.number, 53):
            assert ask_tcp(here.neighbour, HOST, 8080) == GATEWAY
            assert ask_tcp(here.host, "127.0.0.1", 8080) == GATEWAY
            assert ask_udp(here.neighbour, HOST, 5353) == GATEWAY
            assert ask_udp(here.host, "127.0.0.1", 5353) == GATEWAY
        world.plumber.detach("e30-2")
        with pytest.raises(ConnectionRefusedError):
            ask_tcp(here.host, "127.0.0.1", 8080)


def test_forwarding_stays_off_if_that_is_wanted(tmp_path: Path) -> None:
    with hosts():
        plumber = LinuxPlumber(tmp_path / "state")
        plumber.ensure_network(
            BridgeSpec(
                network_id="n",
                name="br0",
                subnet="10.66.0.0/24",
                gateway="10.66.0.1",
                forwarding=False,
            )
        )
        assert read_sysctl("ipv4/ip_forward") == "0"
        plumber.close()


def test_after_detach_nothing_answers_and_no_interface_is_left(world: Plumbed) -> None:
    before = {name for name in links() if not name.startswith("veth")}
    with world.container(2) as container:
        world.publish(2, 8080, 80)
        world.publish(2, 5353, 53, "udp")
        with tcp_server(container.number, 80):
            assert ask_tcp(world.here.neighbour, HOST, 8080)
            world.plumber.detach("e30-2")
            with pytest.raises(OSError):
                ask_tcp(world.here.neighbour, HOST, 8080, timeout=0.5)
    assert {name for name in links() if not name.startswith("veth")} == before
    listed = subprocess.run(
        ["nft", "list", "map", "inet", "sampan", "published_any"],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert b"elements" not in listed.stdout


def test_a_udp_client_that_never_pauses_finds_the_next_container(world: Plumbed) -> None:
    """Without forgetting the old flow its packets would go where the port led before."""
    for number in (2, 3):
        server = world.container(number)
        world.publish(number, 5353, 53, "udp")
        with udp_server(server.number, 53):
            eventually(lambda: _answers_udp(world, 5353))
        world.plumber.detach(f"e30-{number}")


def _answers_udp(world: Plumbed, port: int) -> bool:
    try:
        return ask_udp(world.here.neighbour, HOST, port, timeout=0.3, source=4444) == NEIGHBOUR
    except OSError:
        return False


def test_an_ipv6_address_of_the_host_leads_to_a_container_of_ipv4(world: Plumbed) -> None:
    server = world.container(2)
    world.publish(2, 8080, 80, address="::")
    world.publish(2, 5353, 53, "udp", address="::")
    with tcp_server(server.number, 80), udp_server(server.number, 53):
        assert ask_tcp(world.here.host, "::1", 8080) == GATEWAY
        assert ask_udp(world.here.host, "::1", 5353) == GATEWAY
        with inside(world.here.host):
            client = socket.create_connection(("::1", 8080), timeout=PATIENCE)
        with client:
            data = bytes(range(256)) * 4096
            client.sendall(data[: 1 << 16])
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as answer:
                assert answer.read().partition(b"\n")[2] == data[: 1 << 16]
        world.plumber.detach("e30-2")  # ends the relay, whose user is another one
        with pytest.raises(ConnectionRefusedError):
            ask_tcp(world.here.host, "::1", 8080)


def test_the_helper_s_successor_serves_what_it_left_and_removes_what_ended(world: Plumbed) -> None:
    server, other = world.container(2), world.container(3)
    world.publish(2, 8080, 80)
    world.publish(3, 8081, 80)
    world.publish(2, 8080, 80, address="::")
    kill = subprocess.run(
        ["pgrep", "-o", "-f", f"sampan.helpers.network .*{world.state}"],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    [pid] = kill.stdout.split()
    subprocess.run(["kill", "-9", pid], check=True, timeout=PATIENCE)
    with tcp_server(server.number, 80), tcp_server(other.number, 80):
        assert ask_tcp(world.here.neighbour, HOST, 8080) == NEIGHBOUR  # nobody noticed
        sock, process = rpc.start("sampan.helpers.network", [str(world.state)])
        with sock:
            successor = rpc.connect(Plumber, sock, PATIENCE)
            world.plumber = successor
            world.bridge()
            successor.reconcile(["e30-2"])
            assert [it.endpoint.endpoint_id for it in successor.endpoints()] == ["e30-2"]
            assert ask_tcp(world.here.neighbour, HOST, 8080) == NEIGHBOUR
            assert ask_tcp(world.here.host, "::1", 8080) == GATEWAY
            with pytest.raises(OSError):
                ask_tcp(world.here.neighbour, HOST, 8081, timeout=0.5)
            with pytest.raises(OSError, match="in use"), inside(world.here.host):
                socket.create_server(("0.0.0.0", 8080))
        assert process.wait(PATIENCE) == 0


def test_a_flushed_ruleset_is_repaired_by_the_next_publish(world: Plumbed) -> None:
    server = world.container(2)
    subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=PATIENCE)
    world.publish(2, 8080, 80)
    with tcp_server(server.number, 80):
        assert ask_tcp(world.here.neighbour, HOST, 8080) == NEIGHBOUR


@pytest.mark.parametrize(
    "reload",
    [
        "nft flush ruleset",
        "nft delete table inet sampan",
        "nft flush table inet sampan",
        "nft flush chain inet sampan publish",
    ],
)
def test_rules_that_a_reload_of_the_firewall_took_are_written_anew(
    world: Plumbed, reload: str
) -> None:
    server = world.container(2)
    world.publish(2, 8080, 80)
    subprocess.run(reload.split(), check=True, timeout=PATIENCE)
    with tcp_server(server.number, 80):
        eventually(lambda: _answers(world, 8080))


def test_a_reload_of_iptables_does_not_shut_containers_in(world: Plumbed) -> None:
    server = world.container(2)
    world.publish(2, 8080, 80)
    for line in ("-P FORWARD DROP", "-A FORWARD -s 192.0.2.0/24 -j ACCEPT"):
        subprocess.run(["iptables", *line.split()], check=True, timeout=PATIENCE)
    with tcp_server(server.number, 80):
        eventually(lambda: _answers(world, 8080))
        subprocess.run(["iptables", "-F", "FORWARD"], check=True, timeout=PATIENCE)
        eventually(lambda: _answers(world, 8080))


def _answers(world: Plumbed, port: int) -> bool:
    try:
        return ask_tcp(world.here.neighbour, HOST, port, timeout=0.3) == NEIGHBOUR
    except OSError:
        return False


def test_the_host_s_other_interfaces_still_do_not_route_for_one_another(world: Plumbed) -> None:
    listed = subprocess.run(
        ["nft", "list", "set", "inet", "sampan", "uplinks"],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert b'"uplink0"' in listed.stdout


def test_a_successor_takes_away_the_ports_that_its_predecessor_published(world: Plumbed) -> None:
    world.container(2)
    world.publish(2, 8080, 80)
    sock, process = rpc.start("sampan.helpers.network", [str(world.state)])
    with sock:
        rpc.connect(Plumber, sock, PATIENCE).detach("e30-2")
    assert process.wait(PATIENCE) == 0
    listed = subprocess.run(
        ["nft", "list", "map", "inet", "sampan", "published_any"],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert b"elements" not in listed.stdout


def test_a_network_that_nobody_knows_any_more_is_removed(world: Plumbed) -> None:
    world.bridge(29)
    world.plumber.reconcile([], ["net29"])
    assert "br29" in links()
    assert "br30" not in links()


def test_the_helper_keeps_only_the_capabilities_that_it_needs(world: Plumbed) -> None:
    found = subprocess.run(
        ["pgrep", "-o", "-f", f"sampan.helpers.network .*{world.state}"],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    status = Path(f"/proc/{int(found.stdout)}/status").read_text()
    sets = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Cap"))
    keep, _ = capabilities.bits(NEEDED.split())
    assert {int(sets[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {keep}
    assert int(sets["CapInh"], 16) == 0
