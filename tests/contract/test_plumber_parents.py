"""Networks on interfaces of the host, in process and behind the helper's socket; real packets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sampan.errors import Conflict, Internal, InvalidArgument, SampanError, Unsupported
from sampan.network.drivers.parents import Parents
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import add_bridge, set_link
from sampan.network.plumber import (
    BridgeSpec,
    EndpointSpec,
    IpvlanSpec,
    MacvlanSpec,
    NetworkSpec,
    Plumber,
)
from sampan.network.sandbox import inside
from sampan.rpc import Fd
from tests.netns import (
    HOST,
    NEIGHBOUR,
    NEIGHBOUR6,
    Hosts,
    ask_tcp,
    links,
    route_through_host,
    tcp_server,
)
from tests.session import eventually

pytestmark = pytest.mark.privileged

OURS = "dm-net1"
Attach = Callable[..., Fd]


@pytest.fixture
def attach(plumber: Plumber) -> Iterator[Attach]:
    """Return what gives container `number` an interface in the range of the neighbour."""
    with ExitStack() as stack:

        def container(number: int, sandbox: Fd | None = None, **changes: str) -> Fd:
            spec = endpoint(number, **changes)
            return stack.enter_context(plumber.attach(spec, sandbox))

        yield container


def endpoint(number: int, **changes: str) -> EndpointSpec:
    fields = {
        "endpoint_id": f"e{number}",
        "network_id": "net1",
        "address": f"198.51.100.{number}/24",
        "mac_address": f"02:42:c6:33:64:{number:02x}",
        "gateway": "",
        "container_id": f"c{number}",
    }
    return EndpointSpec(**{**fields, **changes})


def macvlan(**changes: object) -> MacvlanSpec:
    return MacvlanSpec(**{"network_id": "net1", "parent": "uplink0", **changes})  # type: ignore[arg-type]


def kernel_has(kind: str) -> bool:
    """Whether the kernel under test has interfaces of a kind; all ways must be tried somewhere."""
    with RouteSocket() as netlink:
        try:
            Parents(netlink, {}, "sampan").require(kind)
        except Unsupported:
            return False
    return True


def is_silent(namespace: int, address: str) -> bool:
    """Whether nobody answers."""
    try:
        ask_tcp(namespace, address, 80, timeout=0.3)
    except OSError:
        return True
    return False


@pytest.mark.kernel
def test_containers_are_on_the_wire_of_their_parent_with_addresses_of_their_own(
    plumber: Plumber, attach: Attach, here: Hosts
) -> None:
    plumber.ensure_network(macvlan())
    one, two = attach(10), attach(11)
    with tcp_server(here.neighbour, 80), tcp_server(one.number, 80), tcp_server(here.host, 80):
        assert ask_tcp(one.number, NEIGHBOUR, 80) == "198.51.100.10"  # nobody translates
        assert ask_tcp(here.neighbour, "198.51.100.10", 80) == NEIGHBOUR
        assert ask_tcp(two.number, "198.51.100.10", 80) == "198.51.100.11"
        assert is_silent(one.number, HOST)  # the kernel keeps the parent itself apart
    with inside(one.number), RouteSocket() as netlink:
        link = netlink.link("eth0")
        assert link is not None
        assert (link.kind, link.mac, link.up) == ("macvlan", "02:42:c6:33:64:0a", True)
        with open("/proc/sys/net/ipv6/conf/eth0/disable_ipv6") as file:
            assert file.read().strip() == "1"
    assert links() == {"lo", "uplink0"}  # nothing of it is on the host, not even namespaces ready


def test_a_default_route_leads_to_a_gateway_on_the_wire(plumber: Plumber, attach: Attach) -> None:
    plumber.ensure_network(macvlan())
    with inside(attach(10, gateway=NEIGHBOUR).number), RouteSocket() as netlink:
        assert [str(it.gateway) for it in netlink.routes() if it.gateway] == [NEIGHBOUR]


def test_ipv6_is_on_the_wire_as_well(plumber: Plumber, attach: Attach, here: Hosts) -> None:
    plumber.ensure_network(macvlan())
    one = attach(10, address6="2001:db8::10/64", gateway6=NEIGHBOUR6)
    with tcp_server(here.neighbour, 80), tcp_server(one.number, 80):
        eventually(lambda: not is_silent(one.number, NEIGHBOUR6))  # the neighbour's own address
        assert ask_tcp(one.number, NEIGHBOUR6, 80) == "2001:db8::10"
        assert ask_tcp(here.neighbour, "2001:db8::10", 80) == NEIGHBOUR6


@pytest.mark.parametrize("mode", ["private", "vepa"])
def test_in_these_modes_containers_reach_others_but_not_one_another(
    plumber: Plumber, attach: Attach, here: Hosts, mode: str
) -> None:
    plumber.ensure_network(macvlan(mode=mode))
    one, two = attach(10), attach(11)
    with tcp_server(here.neighbour, 80), tcp_server(one.number, 80):
        assert ask_tcp(two.number, NEIGHBOUR, 80) == "198.51.100.11"
        assert is_silent(two.number, "198.51.100.10")


def test_in_mode_passthru_one_container_has_the_parent_for_itself(
    plumber: Plumber, attach: Attach, here: Hosts
) -> None:
    plumber.ensure_network(macvlan(mode="passthru"))
    with pytest.raises(Conflict, match="macvlan network net1 is already using parent interf"):
        plumber.ensure_network(macvlan(network_id="net2"))
    with tcp_server(here.neighbour, 80):
        assert ask_tcp(attach(10).number, NEIGHBOUR, 80) == "198.51.100.10"
    with pytest.raises(SampanError, match="the parent interface uplink0 is in use"):
        plumber.attach(endpoint(11))
    plumber.remove_network("net1")
    plumber.ensure_network(macvlan(network_id="net2"))
    with pytest.raises(Conflict, match="cannot use mode passthru, macvlan network net2 is"):
        plumber.ensure_network(macvlan(mode="passthru"))


def test_without_a_parent_containers_reach_one_another_and_nobody_else(
    plumber: Plumber, attach: Attach, here: Hosts
) -> None:
    plumber.ensure_network(macvlan(parent="", internal=True))
    assert OURS in links()
    one, two = attach(10), attach(11)
    with tcp_server(one.number, 80), tcp_server(here.neighbour, 80), tcp_server(here.host, 80):
        assert ask_tcp(two.number, "198.51.100.10", 80) == "198.51.100.11"
        assert is_silent(two.number, NEIGHBOUR)
        assert is_silent(two.number, HOST)
        assert is_silent(here.host, "198.51.100.10")
    plumber.reconcile(["e10", "e11"], ["net1"])
    with tcp_server(one.number, 80):
        assert ask_tcp(two.number, "198.51.100.10", 80) == "198.51.100.11"
    plumber.remove_network("net1")
    assert links() == {"lo", "uplink0"}


def test_a_container_that_runs_on_loses_its_interface_when_it_is_disconnected(
    plumber: Plumber, attach: Attach
) -> None:
    plumber.ensure_network(macvlan())
    sandbox = attach(10)
    attach(11, sandbox, interface="eth1")
    assert links(sandbox.number) == {"lo", "eth0", "eth1"}
    plumber.detach("e11", sandbox)
    assert links(sandbox.number) == {"lo", "eth0"}
    attach(11, sandbox, interface="eth1")  # and may be connected again
    attach(11, sandbox, interface="eth1")  # and again: the one before is replaced
    assert links(sandbox.number) == {"lo", "eth0", "eth1"}
    assert [it.endpoint.endpoint_id for it in plumber.endpoints()] == ["e10", "e11"]


def test_a_failure_leaves_no_interface(plumber: Plumber, attach: Attach) -> None:
    plumber.ensure_network(macvlan())
    sandbox = attach(10)
    with pytest.raises(Internal, match="failed to set up interface eth1"):
        attach(11, sandbox, interface="eth1", gateway="203.0.113.1")
    assert links(sandbox.number) == {"lo", "eth0"}
    with pytest.raises(Internal, match="failed to set up interface eth0"):
        attach(11, sandbox)  # there is an eth0 already
    assert [it.endpoint.endpoint_id for it in plumber.endpoints()] == ["e10"]


@pytest.mark.kernel  # Debian's has VLANs and ipvlan
def test_a_vlan_is_made_with_its_first_network_and_goes_with_its_last(plumber: Plumber) -> None:
    wanted = macvlan(parent="uplink0.10")
    if not kernel_has("vlan"):
        with pytest.raises(Unsupported, match=f"kernel {os.uname().release} has no vlan interf"):
            plumber.ensure_network(wanted)
        assert links() == {"lo", "uplink0"}
        return
    plumber.ensure_network(wanted)
    plumber.ensure_network(wanted)
    plumber.ensure_network(macvlan(network_id="net2", parent="uplink0.10"))
    with RouteSocket() as netlink:
        link = netlink.link("uplink0.10")
        assert link is not None
        assert (link.kind, link.up, link.alias) == ("vlan", True, "sampan:parent")
    plumber.remove_network("net1")
    assert "uplink0.10" in links()
    plumber.remove_network("net2")
    assert links() == {"lo", "uplink0"}


@pytest.mark.parametrize(
    ("parent", "sentence"),
    [
        ("nowhere0", "invalid subinterface vlan name nowhere0, example formatting is eth0.10"),
        ("nowhere0.10", "-o parent interface was not found on the host: nowhere0"),
        ("uplink0.x", "unable to parse a valid vlan id from: x"),
        ("uplink0.9999", "vlan id must be between 1-4094, received: 9999"),
        ("uplink0.1.2", "required interface name format is: name.vlan_id"),
        ("lo", "loopback interface is not a valid macvlan parent link"),
        ("../uplink0", "invalid parent interface"),
        ("", "a network without a parent interface is internal"),
    ],
)
def test_a_parent_that_cannot_be_is_refused_by_name(
    plumber: Plumber, parent: str, sentence: str
) -> None:
    with pytest.raises(SampanError, match=sentence):
        plumber.ensure_network(macvlan(parent=parent))
    assert links() == {"lo", "uplink0"}
    with pytest.raises(SampanError, match="network net1 not found"):
        plumber.attach(endpoint(10))


def test_an_interface_of_a_container_is_no_parent(plumber: Plumber) -> None:
    network = BridgeSpec(network_id="b", name="br0", subnet="10.9.0.0/24", gateway="10.9.0.1")
    plumber.ensure_network(network)
    plumber.attach(endpoint(2, network_id="b", address="10.9.0.2/24")).close()
    with RouteSocket() as netlink:
        port = next(it.name for it in netlink.links() if it.alias == "sampan:e2")
    with pytest.raises(Conflict, match=f"the parent interface {port} belongs to a container"):
        plumber.ensure_network(macvlan(parent=port))


def test_a_parent_that_is_the_port_of_a_bridge_is_named(plumber: Plumber) -> None:
    with RouteSocket() as netlink:
        netlink.request(add_bridge("br0", "02:00:00:00:00:01"))
        bridge, uplink = netlink.link("br0"), netlink.link("uplink0")
        assert bridge is not None
        assert uplink is not None
        netlink.request(set_link(uplink.index, master=bridge.index))
    plumber.ensure_network(macvlan())
    with pytest.raises(Internal, match=r"the parent interface uplink0 is in use by .* a bridge"):
        plumber.attach(endpoint(10))


def test_somebody_else_s_bridge_of_our_name_is_left_alone(plumber: Plumber) -> None:
    with RouteSocket() as netlink:
        netlink.request(add_bridge(OURS, "02:00:00:00:00:01"))
        link = netlink.link(OURS)
        assert link is not None
        netlink.request(set_link(link.index, alias="mine"))
    with pytest.raises(Conflict, match=f"existing interface {OURS} belongs to somebody else"):
        plumber.ensure_network(macvlan(parent="", internal=True))
    assert OURS in links()


@pytest.mark.kernel
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_ipvlan_works_where_the_kernel_has_it_and_else_is_refused_by_name(
    plumber: Plumber, attach: Attach, here: Hosts, mode: str
) -> None:
    wanted = IpvlanSpec(network_id="net1", parent="uplink0", mode=mode)  # type: ignore[arg-type]
    if not kernel_has("ipvlan"):
        with pytest.raises(Unsupported, match=f"the kernel {os.uname().release} has no ipvlan"):
            plumber.ensure_network(wanted)
        return
    plumber.ensure_network(wanted)
    with pytest.raises(Conflict, match="network dm-net1 is already using parent interface"):
        plumber.ensure_network(IpvlanSpec(network_id="net2", parent="uplink0"))
    # In the routed modes nobody answers ARP for containers: others need a route to their range.
    gateway, subnet = (NEIGHBOUR, "198.51.100") if mode == "l2" else ("0.0.0.0", "10.20.0")
    route_through_host(here.neighbour)
    one, two = (
        attach(number, mac_address="", gateway=gateway, address=f"{subnet}.{number}/24")
        for number in (10, 11)
    )
    with tcp_server(here.neighbour, 80), tcp_server(one.number, 80):
        assert ask_tcp(two.number, f"{subnet}.10", 80) == f"{subnet}.11"
        assert ask_tcp(two.number, NEIGHBOUR, 80) == f"{subnet}.11"
        assert ask_tcp(here.neighbour, f"{subnet}.10", 80) == NEIGHBOUR


def test_a_successor_finds_endpoints_and_takes_them_back(here: Hosts, tmp_path: Path) -> None:
    networks: list[NetworkSpec] = [
        macvlan(),
        macvlan(network_id="net2", parent="", internal=True, domain="backend"),
    ]
    first = LinuxPlumber(tmp_path / "state")
    for network in networks:
        first.ensure_network(network)
    with first.attach(endpoint(10)) as sandbox:
        first.attach(endpoint(11, network_id="net2", interface="eth1"), sandbox).close()
        before = first.endpoints()
        first.close()
        second = LinuxPlumber(tmp_path / "state")
        assert second.endpoints() == before
        for network in networks:
            second.ensure_network(network)
        second.reconcile(["e10", "e11"], ["net1", "net2"])
        with tcp_server(here.neighbour, 80):
            assert ask_tcp(sandbox.number, NEIGHBOUR, 80) == "198.51.100.10"
        second.detach("e11", sandbox)
        assert links(sandbox.number) == {"lo", "eth0"}
        second.reconcile([], [])
        assert links() == {"lo", "uplink0"}
        second.close()


def test_malformed_networks_are_refused(plumber: Plumber) -> None:
    for bad in (
        {"network_id": "../x"},
        {"domain": "x" * 300},
        {"parent": "a" * 16},
        {"parent": "", "internal": True, "mode": "passthru"},
    ):
        with pytest.raises(InvalidArgument):
            plumber.ensure_network(macvlan(**bad))
