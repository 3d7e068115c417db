"""What every Plumber does, in process and behind the helper's socket; the kernel is asked."""

from __future__ import annotations

import fcntl
import os
import socket
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.plumber import BridgeSpec, EndpointSpec, Plumber, PortMapping
from sampan.network.sandbox import inside
from sampan.rpc import Fd
from sampan.runtime.starting import user_namespaces
from tests.in_range import maps
from tests.netns import links

pytestmark = pytest.mark.privileged

NS_GET_USERNS = 0xB701  # linux/nsfs.h
BRIDGE = BridgeSpec(network_id="net1", name="sampan0", subnet="172.30.0.0/16", gateway="172.30.0.1")


def endpoint(number: int = 2, **changes: str) -> EndpointSpec:
    fields = {
        "endpoint_id": f"e{number}",
        "network_id": "net1",
        "address": f"172.30.0.{number}/16",
        "mac_address": f"02:42:ac:1e:00:{number:02x}",
        "gateway": "172.30.0.1",
        "container_id": f"c{number}",
    }
    return EndpointSpec(**{**fields, **changes})


def tcp(container: int, host: int = 0, address: str = "0.0.0.0", last: int = 0) -> PortMapping:
    return PortMapping(
        protocol="tcp",
        host_address=address,
        host_port=host,
        container_port=container,
        host_port_end=last,
    )


@pytest.fixture
def bridged(plumber: Plumber) -> Plumber:
    plumber.ensure_network(BRIDGE)
    return plumber


def test_a_bridge_has_the_gateway_s_address_and_is_up(plumber: Plumber) -> None:
    plumber.ensure_network(BRIDGE)
    with RouteSocket() as netlink:
        link = netlink.link("sampan0")
        assert link is not None
        assert link.up
        assert link.kind == "bridge"
        assert (link.index, IPv4Interface("172.30.0.1/16")) in netlink.addresses()
    assert Path("/proc/thread-self/net/dev").exists()
    with open("/proc/sys/net/ipv4/ip_forward") as file:
        assert file.read().strip() == "1"


def test_making_a_bridge_twice_changes_nothing(bridged: Plumber) -> None:
    with RouteSocket() as netlink:
        before = netlink.link("sampan0"), netlink.addresses()
        bridged.ensure_network(BRIDGE)
        assert (netlink.link("sampan0"), netlink.addresses()) == before


def test_a_bridge_follows_its_specification(bridged: Plumber) -> None:
    changed = BridgeSpec(
        network_id="net1", name="sampan0", subnet="172.31.0.0/16", gateway="172.31.0.9", mtu=1400
    )
    bridged.ensure_network(changed)
    with RouteSocket() as netlink:
        link = netlink.link("sampan0")
        assert link is not None
        assert link.mtu == 1400
        found = [address for index, address in netlink.addresses() if index == link.index]
        assert found == [IPv4Interface("172.31.0.9/16")]


def test_an_interface_of_somebody_else_is_left_alone(plumber: Plumber) -> None:
    taken = BridgeSpec(network_id="n", name="uplink0", subnet="10.9.0.0/16", gateway="10.9.0.1")
    with pytest.raises(Conflict, match="existing interface uplink0 is not a bridge"):
        plumber.ensure_network(taken)
    plumber.remove_network("n")
    assert "uplink0" in links()


def test_a_removed_bridge_is_gone_with_its_endpoints_and_unknown_ones_are_no_error(
    bridged: Plumber,
) -> None:
    bridged.attach(endpoint()).close()
    bridged.publish("e2", [tcp(80, 8080)]) if "e2" in _ids(bridged) else None
    bridged.remove_network("net1")
    bridged.remove_network("net1")
    assert "sampan0" not in links()
    assert bridged.endpoints() == []


def _ids(plumber: Plumber) -> set[str]:
    return {made.endpoint.endpoint_id for made in plumber.endpoints()}


def test_a_free_subnet_collides_with_no_address_or_route(bridged: Plumber) -> None:
    pools = ["172.30.0.0/16", "198.51.100.0/24", "10.1.0.0/16", "10.2.0.0/16"]
    assert bridged.free_subnet(pools, ["10.1.128.0/24"]) == "10.2.0.0/16"
    with pytest.raises(InvalidArgument, match="fully subnetted"):
        bridged.free_subnet(pools[:2], [])


def test_a_sandbox_has_loopback_and_nothing_else(plumber: Plumber) -> None:
    with plumber.sandbox() as sandbox:
        with inside(sandbox.number), RouteSocket() as netlink:
            [link] = netlink.links()
            assert (link.name, link.up) == ("lo", True)


def test_an_endpoint_has_its_address_mac_and_default_route(bridged: Plumber) -> None:
    with bridged.attach(endpoint()) as sandbox:
        with inside(sandbox.number), RouteSocket() as netlink:
            link = netlink.link("eth0")
            assert link is not None
            assert (link.mac, link.up) == ("02:42:ac:1e:00:02", True)
            assert (link.index, IPv4Interface("172.30.0.2/16")) in netlink.addresses()
            assert [str(r.gateway) for r in netlink.routes() if r.gateway] == ["172.30.0.1"]
            with open("/proc/sys/net/ipv6/conf/eth0/disable_ipv6") as file:
                assert file.read().strip() == "1"


def test_a_second_interface_goes_into_the_same_sandbox(bridged: Plumber) -> None:
    bridged.ensure_network(
        BridgeSpec(network_id="net2", name="br-two", subnet="10.7.0.0/24", gateway="10.7.0.1")
    )
    other = endpoint(3, network_id="net2", address="10.7.0.2/24", gateway="", interface="eth1")
    with bridged.attach(endpoint()) as sandbox:
        bridged.attach(other, sandbox).close()
        assert links(sandbox.number) == {"lo", "eth0", "eth1"}
        bridged.detach("e3")
        bridged.attach(other, sandbox).close()  # the name is free again
        assert links(sandbox.number) == {"lo", "eth0", "eth1"}


def test_loopback_is_up_in_a_namespace_that_was_made_elsewhere(bridged: Plumber) -> None:
    made = user_namespaces.make(maps(), maps(), network=True)
    with Fd(made.user), Fd(made.network) as given, bridged.attach(endpoint(), given) as sandbox:
        with inside(sandbox.number), socket.socket() as sock:
            sock.bind(("127.0.0.11", 0))
            assert fcntl.ioctl(sandbox.number, NS_GET_USERNS) >= 0


def test_attaching_again_replaces_and_detaching_unknown_endpoints_is_no_error(
    bridged: Plumber,
) -> None:
    with bridged.attach(endpoint()), bridged.attach(endpoint()) as sandbox:
        assert "eth0" in links(sandbox.number)
    assert _ids(bridged) == {"e2"}
    bridged.detach("e2")
    bridged.detach("e2")
    assert _ids(bridged) == set()


def test_a_published_port_is_reserved_on_the_host_and_free_again_afterwards(
    bridged: Plumber,
) -> None:
    bridged.attach(endpoint()).close()
    [published] = bridged.publish("e2", [tcp(80, 8080)])
    assert published.host_port == 8080
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", 8080))
    bridged.detach("e2")
    socket.create_server(("0.0.0.0", 8080)).close()


def test_a_taken_port_is_refused_in_docker_s_words_and_nothing_is_left(bridged: Plumber) -> None:
    for number in (2, 3):
        bridged.attach(endpoint(number)).close()
    bridged.publish("e2", [tcp(80, 8080)])
    with pytest.raises(
        Conflict, match=r"^Bind for 0\.0\.0\.0:8080 failed: port is already allocated$"
    ):
        bridged.publish("e3", [tcp(80, 8081), tcp(80, 8080, "127.0.0.1")])
    with socket.create_server(("0.0.0.0", 9090)):
        with pytest.raises(Conflict, match=r"host port 0\.0\.0\.0:9090/tcp: address already in"):
            bridged.publish("e3", [tcp(80, 8081), tcp(80, 9090)])
    assert [made.ports for made in bridged.endpoints()][1] == []
    assert bridged.publish("e3", [tcp(80, 8081)])[0].host_port == 8081


def test_one_port_on_two_addresses_is_no_conflict(bridged: Plumber) -> None:
    for number in (2, 3):
        bridged.attach(endpoint(number)).close()
    bridged.publish("e2", [tcp(80, 8080, "127.0.0.1")])
    bridged.publish("e3", [tcp(80, 8080, "198.51.100.1")])
    with pytest.raises(Conflict, match=r"Bind for 127\.0\.0\.1:8080"):
        bridged.publish("e3", [tcp(81, 8080)])


def test_random_ports_differ_and_are_the_same_for_all_addresses_of_a_mapping(
    bridged: Plumber,
) -> None:
    bridged.attach(endpoint()).close()
    wanted = [tcp(80), tcp(80, 0, "::"), tcp(81), tcp(81, 0, "::")]
    four = [mapping.host_port for mapping in bridged.publish("e2", wanted)]
    assert four[0] == four[1] != four[2] == four[3]
    assert all(32768 <= port <= 60999 for port in four)


def test_a_range_gives_the_first_free_port(bridged: Plumber) -> None:
    bridged.attach(endpoint()).close()
    with socket.create_server(("0.0.0.0", 8001)):
        bridged.publish("e2", [tcp(80, 8000)])
        found = bridged.publish("e2", [tcp(81, 8000, last=8002)])
        assert [mapping.host_port for mapping in found] == [8002]
        with pytest.raises(Conflict):
            bridged.publish("e2", [tcp(82, 8000, last=8002)])


@pytest.mark.parametrize(
    "bad",
    [
        {"address": "172.30.0.256/16"},
        {"mac_address": "02:42"},
        {"interface": "../eth0"},
        {"interface": "a-name-that-is-too-long"},
        {"endpoint_id": "../e"},
        {"gateway": "nowhere"},
    ],
)
def test_malformed_endpoints_are_refused(bridged: Plumber, bad: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        bridged.attach(endpoint(2, **bad))
    assert bridged.endpoints() == []


@pytest.mark.parametrize(
    "bad",
    [
        {"name": 'x" drop; #'},
        {"subnet": "172.30.0.1/16"},
        {"gateway": "10.0.0.1"},
        {"network_id": "../x"},
        {"mtu": 7},
    ],
)
def test_malformed_bridges_are_refused(plumber: Plumber, bad: dict[str, str]) -> None:
    fields = {name: getattr(BRIDGE, name) for name in BRIDGE.__struct_fields__}
    with pytest.raises(InvalidArgument):
        plumber.ensure_network(BridgeSpec(**{**fields, **bad}))
    assert links() == {"lo", "uplink0"}  # not even namespaces in stock


def test_what_is_unknown_is_not_found(plumber: Plumber) -> None:
    with pytest.raises(NotFound, match="network net1 not found"):
        plumber.attach(endpoint())
    with pytest.raises(NotFound, match="endpoint e2 not found"):
        plumber.publish("e2", [tcp(80, 80)])


def test_malformed_ports_are_refused(bridged: Plumber) -> None:
    bridged.attach(endpoint()).close()
    for bad in (
        tcp(0, 80),
        tcp(80, 70000),
        tcp(80, 80, "0.0.0.00"),
        tcp(80, 80, "x; drop"),
        tcp(80, 80, "::x"),
    ):
        with pytest.raises(InvalidArgument):
            bridged.publish("e2", [bad])
    assert bridged.endpoints()[0].ports == []


def test_an_endpoint_that_failed_leaves_no_interface(bridged: Plumber) -> None:
    before = {name for name in links() if not name.startswith("veth")}
    with pytest.raises(SampanError, match="failed to set up interface"):
        bridged.attach(endpoint(2, gateway="203.0.113.1")).close()
    assert bridged.endpoints() == []
    assert {name for name in links() if not name.startswith("veth")} == before


def test_reconcile_keeps_what_is_listed_and_removes_the_rest(bridged: Plumber) -> None:
    kept = bridged.attach(endpoint(2))
    with kept, bridged.attach(endpoint(3)) as lost:
        bridged.publish("e2", [tcp(80, 8080)])
        bridged.publish("e3", [tcp(80, 8081)])
        bridged.reconcile(["e2", "unheard-of"])
        assert _ids(bridged) == {"e2"}
        socket.create_server(("0.0.0.0", 8081)).close()
        assert "eth0" in links(kept.number)
        assert os.fstat(lost.number)
