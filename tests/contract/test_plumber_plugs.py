"""Interfaces plugged by hand, in process and behind the helper's socket; real packets."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from sampan.errors import Conflict, InvalidArgument, SampanError
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import add_bridge, delete_address, set_link
from sampan.network.plumber import (
    BridgeSpec,
    EndpointSpec,
    IntoBridge,
    OntoParent,
    PlugEnd,
    PlugSpec,
    Plumber,
    ToPeer,
)
from sampan.network.sandbox import Sandbox, inside
from sampan.rpc import Fd
from tests.netns import HOST, NEIGHBOUR, Hosts, ask_tcp, links, tcp_server

pytestmark = pytest.mark.privileged


@pytest.fixture
def one() -> Iterator[Fd]:
    """The namespace of a container without a network."""
    with Sandbox.new() as sandbox:
        yield Fd(sandbox.namespace)


@pytest.fixture
def two() -> Iterator[Fd]:
    with Sandbox.new() as sandbox:
        yield Fd(sandbox.namespace)


def plug(
    into: IntoBridge | OntoParent | ToPeer, address: str = "198.51.100.10/24", **changes: object
) -> PlugSpec:
    end = PlugEnd(**{"addresses": [address] if address else [], **changes})  # type: ignore[arg-type]
    return PlugSpec(plug_id="p1", container_id="c1", end=end, into=into)


def pair(address: str = "10.1.1.1/32", other: str = "10.1.1.2/32") -> PlugSpec:
    return plug(ToPeer(container_id="c2", end=PlugEnd(addresses=[other])), address)


def lan(name: str = "br0", port: str = "uplink0") -> IntoBridge:
    return IntoBridge(name=name, port=port)


def bare_uplink() -> None:
    """Take the host's address from its card, as the guide has it: the bridge has it instead."""
    with RouteSocket() as netlink:
        link = netlink.link("uplink0")
        assert link is not None
        netlink.request(delete_address(link.index, IPv4Interface(f"{HOST}/24")))


def test_two_containers_are_connected_point_to_point(plumber: Plumber, one: Fd, two: Fd) -> None:
    made = plumber.plug(pair(), one, two)
    assert made.end.interface == "eth0"
    assert plumber.plugs() == [made]
    with tcp_server(one.number, 80), tcp_server(two.number, 80):
        assert ask_tcp(two.number, "10.1.1.1", 80) == "10.1.1.2"
        assert ask_tcp(one.number, "10.1.1.2", 80) == "10.1.1.1"
    assert links() - {"lo", "uplink0"} == set()  # nothing of it is on the host
    plumber.unplug("p1", one)
    assert links(one.number) == links(two.number) == {"lo"}
    plumber.unplug("p1")
    assert plumber.plugs() == []


def test_a_pair_ends_with_either_end(plumber: Plumber, one: Fd, two: Fd) -> None:
    plumber.plug(pair("fd00::1/64", "fd00::2/64"), one, two)
    with tcp_server(one.number, 80):
        assert ask_tcp(two.number, "fd00::1", 80) == "fd00::2"
    plumber.unplug("p1", None, two)
    assert links(one.number) == links(two.number) == {"lo"}


def test_a_bridge_with_a_card_exposes_a_container_and_goes_with_it(
    plumber: Plumber, one: Fd, two: Fd, here: Hosts
) -> None:
    bare_uplink()
    plumber.plug(plug(lan(), mac_address="02:00:00:00:00:07"), one)
    other = plug(lan(port=""), "198.51.100.11/24", gateways=[NEIGHBOUR])
    other.plug_id = "p2"
    plumber.plug(other, two)
    with tcp_server(one.number, 80), tcp_server(here.neighbour, 80):
        assert ask_tcp(here.neighbour, "198.51.100.10", 80) == NEIGHBOUR
        assert ask_tcp(two.number, "198.51.100.10", 80) == "198.51.100.11"
        assert ask_tcp(two.number, NEIGHBOUR, 80) == "198.51.100.11"
    with inside(one.number), RouteSocket() as netlink:
        link = netlink.link("eth0")
        assert link is not None
        assert link.mac == "02:00:00:00:00:07"
    with inside(two.number), RouteSocket() as netlink:
        assert [str(it.gateway) for it in netlink.routes() if it.gateway] == [NEIGHBOUR]
    plumber.unplug("p1", one)  # the card goes with the plug that has brought it
    with RouteSocket() as netlink:
        uplink = netlink.link("uplink0")
        assert uplink is not None
        assert (uplink.master, uplink.alias) == (0, "")
    assert "br0" in links()
    plumber.unplug("p2", two)
    assert "br0" not in links()
    assert "uplink0" in links()


def test_bridges_and_ports_of_the_administrator_stay(
    plumber: Plumber, one: Fd, here: Hosts
) -> None:
    bare_uplink()
    with RouteSocket() as netlink:
        netlink.request(add_bridge("br0"))
        bridge, uplink = netlink.link("br0"), netlink.link("uplink0")
        assert bridge is not None
        assert uplink is not None
        netlink.request(
            set_link(bridge.index, up=True), set_link(uplink.index, master=bridge.index)
        )
        plumber.plug(plug(lan()), one)
        with tcp_server(one.number, 80):
            assert ask_tcp(here.neighbour, "198.51.100.10", 80) == NEIGHBOUR
        plumber.unplug("p1", one)
        plumber.reconcile([])
        after = netlink.link("uplink0")
        assert after is not None
        assert after.master == bridge.index
        assert "br0" in links()


def test_by_hand_into_a_network_s_bridge_with_its_gateway(
    plumber: Plumber, one: Fd, here: Hosts
) -> None:
    plumber.ensure_network(
        BridgeSpec(network_id="n", name="sampan0", subnet="172.30.0.0/16", gateway="172.30.0.1")
    )
    wanted = plug(lan("sampan0", ""), "172.30.0.99/16", gateways=["172.30.0.1"])
    plumber.plug(wanted, one)
    with tcp_server(here.neighbour, 80):
        assert ask_tcp(one.number, NEIGHBOUR, 80) == HOST
    plumber.unplug("p1", one)
    assert "sampan0" in links()


def test_a_plug_into_a_bridge_that_keeps_containers_apart_is_kept_apart_too(
    plumber: Plumber, one: Fd
) -> None:
    network = BridgeSpec(
        network_id="n",
        name="sampan0",
        subnet="172.30.0.0/16",
        gateway="172.30.0.1",
        inter_container=False,
    )
    plumber.ensure_network(network)
    container = EndpointSpec(
        endpoint_id="e1",
        network_id="n",
        address="172.30.0.2/16",
        mac_address="02:42:ac:1e:00:02",
        gateway="",
    )
    with plumber.attach(container) as other:
        plumber.plug(plug(lan("sampan0", ""), "172.30.0.99/16"), one)
        with tcp_server(other.number, 80), pytest.raises(OSError):
            ask_tcp(one.number, "172.30.0.2", 80, timeout=0.3)


def test_a_container_is_on_the_wire_of_a_card_by_macvlan(
    plumber: Plumber, one: Fd, here: Hosts
) -> None:
    made = plumber.plug(plug(OntoParent(parent="uplink0"), interface="lan0"), one)
    assert made.end.interface == "lan0"
    with tcp_server(one.number, 80):
        assert ask_tcp(here.neighbour, "198.51.100.10", 80) == NEIGHBOUR
    plumber.unplug("p1", one)
    assert links(one.number) == {"lo"}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (plug(lan("uplink0", "")), "existing interface uplink0 is not a bridge"),
        (plug(lan()), f"the interface uplink0 has the address {HOST}/24: move it to the bridge"),
        (plug(lan(port="em9")), "there is no interface em9 on the host"),
        (plug(lan(port="lo")), "lo cannot be a port of the bridge br0"),
        (plug(lan("../br0")), "invalid bridge name"),
        (plug(lan(port=""), "nowhere"), "invalid address"),
        (plug(lan(port=""), mac_address="02"), "invalid MAC address"),
        (plug(lan(port=""), gateways=["203.0.113.1"]), "the gateway is in no subnet"),
        (plug(lan(port=""), interface="lo"), "the container has an interface lo already"),
        (plug(OntoParent(parent="em9")), "invalid subinterface vlan name em9"),
        (plug(OntoParent(parent="uplink0"), gateways=["203.0.113.1"]), "failed to set up"),
        (plug(ToPeer(container_id="c2", end=PlugEnd())), "needs two containers"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_leaves_nothing(
    plumber: Plumber, one: Fd, wanted: PlugSpec, sentence: str
) -> None:
    with pytest.raises(SampanError, match=sentence):
        plumber.plug(wanted, one)
    assert plumber.plugs() == []
    assert links(one.number) == {"lo"}
    assert "br0" not in links()
    with RouteSocket() as netlink:
        uplink = netlink.link("uplink0")
        assert uplink is not None
        assert (uplink.master, uplink.alias) == (0, "")


def test_a_second_default_route_or_plug_of_the_same_id_is_refused(
    plumber: Plumber, one: Fd
) -> None:
    with_gateway = plug(lan(port=""), gateways=["198.51.100.1"])
    plumber.plug(with_gateway, one)
    with pytest.raises(Conflict, match="p1 is plugged already"):
        plumber.plug(with_gateway, one)
    with_gateway.plug_id = "p2"
    with pytest.raises(Conflict, match="eth1 cannot be plugged: the container has a default rou"):
        plumber.plug(with_gateway, one)
    assert links(one.number) == {"lo", "eth0"}


def test_a_card_that_another_bridge_has_is_left_to_it(plumber: Plumber, one: Fd) -> None:
    bare_uplink()
    plumber.plug(plug(lan()), one)
    second = plug(lan("br1"))
    second.plug_id = "p2"
    with pytest.raises(Conflict, match="the interface uplink0 is in use by another bridge"):
        plumber.plug(second, one)
    assert "br1" not in links()


def test_a_successor_keeps_what_is_wanted_and_takes_back_the_rest(
    here: Hosts, tmp_path: Path, one: Fd, two: Fd
) -> None:
    bare_uplink()
    first = LinuxPlumber(tmp_path / "state")
    first.plug(plug(lan()), one)
    second_plug = plug(OntoParent(parent="br0"), "198.51.100.12/24")
    second_plug.plug_id = "p2"
    first.plug(second_plug, two)
    before = first.plugs()
    first.close()
    second = LinuxPlumber(tmp_path / "state")
    assert second.plugs() == before
    second.reconcile(["p1", "p2"], [])
    with tcp_server(one.number, 80):
        assert ask_tcp(here.neighbour, "198.51.100.10", 80) == NEIGHBOUR
    second.reconcile([], [])
    assert second.plugs() == []
    assert links() == {"lo", "uplink0"}
    second.close()


def test_what_was_made_for_a_plug_that_never_came_to_be_is_swept(
    plumber: Plumber, here: Hosts
) -> None:
    with RouteSocket() as netlink:  # as a helper leaves it that was killed in between
        netlink.request(add_bridge("br0"))
        bridge, uplink = netlink.link("br0"), netlink.link("uplink0")
        assert bridge is not None
        assert uplink is not None
        netlink.request(
            set_link(bridge.index, alias="sampan:plug"),
            set_link(uplink.index, master=bridge.index, alias="sampan-port"),
        )
        plumber.reconcile([])
        after = netlink.link("uplink0")
        assert after is not None
        assert (after.master, after.alias) == (0, "")
    assert "br0" not in links()


def test_malformed_plugs_are_refused(plumber: Plumber, one: Fd) -> None:
    bad = plug(lan())
    bad.plug_id = "../x"
    with pytest.raises(InvalidArgument):
        plumber.plug(bad, one)
    assert plumber.plugs() == []
