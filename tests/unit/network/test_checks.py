"""What the plumber accepts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.network.checks import check_endpoint, check_network, check_port, check_resolver
from sampan.network.plumber import BridgeSpec, EndpointSpec, PortMapping, ResolverSpec


def port(address: str, host: int = 80, container: int = 80, end: int = 0) -> PortMapping:
    return PortMapping(
        protocol="tcp",
        host_address=address,
        host_port=host,
        container_port=container,
        host_port_end=end,
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "2001:db8::1"])
def test_addresses_of_both_families_may_be_published_on(address: str) -> None:
    check_port(port(address))


@pytest.mark.parametrize(
    "bad",
    [
        port(""),
        port("host"),
        port("0.0.0.00"),
        port("fe80::1%eth0"),
        port("0:0::0"),
        port("0.0.0.0", host=-1),
        port("0.0.0.0", host=65536),
        port("0.0.0.0", container=0),
        port("0.0.0.0", end=79),
        port("0.0.0.0", end=65536),
    ],
)
def test_other_ports_are_refused(bad: PortMapping) -> None:
    with pytest.raises(InvalidArgument):
        check_port(bad)


@given(st.text(max_size=30))
def test_no_name_of_a_bridge_can_break_out_of_a_rule(name: str) -> None:
    bridge = BridgeSpec(network_id="n", name=name, subnet="10.0.0.0/8", gateway="10.0.0.1")
    try:
        check_network(bridge)
    except InvalidArgument:
        return
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", name)


@given(st.text(max_size=30))
def test_no_id_of_an_endpoint_can_leave_its_folder(name: str) -> None:
    endpoint = EndpointSpec(
        endpoint_id=name,
        network_id="n",
        address="10.0.0.2/8",
        mac_address="02:42:0a:00:00:02",
        gateway="",
    )
    try:
        check_endpoint(endpoint)
    except InvalidArgument:
        return
    assert "/" not in name
    assert not name.startswith(".")


@pytest.mark.parametrize(
    "bad",
    [
        ResolverSpec(container_id="../c"),
        ResolverSpec(container_id="c", servers=["here"]),
        ResolverSpec(container_id="c", aliases={"": "web"}),
        ResolverSpec(container_id="c", aliases={"db": "x" * 254}),
    ],
)
def test_malformed_resolvers_are_refused(bad: ResolverSpec) -> None:
    check_resolver(ResolverSpec(container_id="c", servers=["192.0.2.1", "fe80::1%eth0"]))
    with pytest.raises(InvalidArgument):
        check_resolver(bad)
