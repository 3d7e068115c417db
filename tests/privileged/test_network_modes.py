"""Gateway modes with both back-ends: who reaches what of a network from elsewhere, and as whom."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sampan import rpc
from sampan.errors import InvalidArgument
from sampan.network.plumber import BridgeSpec, EndpointSpec, Plumber, PortMapping
from sampan.network.sandbox import inside, read_sysctl
from sampan.rpc import Fd
from tests.netns import (
    HOST,
    HOST6,
    NEIGHBOUR,
    NEIGHBOUR6,
    Hosts,
    ask_tcp,
    hosts,
    route_through_host,
    tcp_server,
)
from tests.session import PATIENCE, eventually

pytestmark = pytest.mark.privileged

ANY = {4: "0.0.0.0", 6: "::"}
US, OTHERS = {4: HOST, 6: HOST6}, {4: NEIGHBOUR, 6: NEIGHBOUR6}
OWN = {4: "172.30.0.2", 6: "fd00:30::2"}


class World:
    """A host with one network of both families, and a neighbour who has a route to it."""

    def __init__(self, here: Hosts, plumber: Plumber, stack: ExitStack) -> None:
        self.host, self.neighbour = here.host, here.neighbour
        self.plumber, self._stack = plumber, stack
        route_through_host(here.neighbour)

    def bridge(self, **more: Any) -> None:
        self.plumber.ensure_network(
            BridgeSpec(
                network_id="net",
                name="br30",
                subnet="172.30.0.0/16",
                gateway="172.30.0.1",
                subnet6="fd00:30::/64",
                gateway6="fd00:30::1",
                **more,
            )
        )

    def container(self, number: int = 2, **more: Any) -> Fd:
        spec = EndpointSpec(
            endpoint_id=f"e{number}",
            network_id="net",
            address=f"172.30.0.{number}/16",
            mac_address=f"02:42:ac:1e:00:{number:02x}",
            gateway="172.30.0.1",
            address6=f"fd00:30::{number}/64",
            gateway6="fd00:30::1",
            **more,
        )
        return self._stack.enter_context(self.plumber.attach(spec))

    def open(self, port: int, family: int) -> list[PortMapping]:
        """Publish a port of container 2 at its own address."""
        mapping = PortMapping(
            protocol="tcp",
            host_address=ANY[family],
            host_port=0,
            container_port=port,
            routed=True,
        )
        return self.plumber.publish("e2", [mapping])

    def await_neighbour(self, port: int, family: int) -> None:
        """Wait until the neighbour reaches a port, as itself."""
        eventually(lambda: self.neighbour_reaches(port, family) == OTHERS[family])

    def neighbour_reaches(self, port: int, family: int) -> str:
        """Return as whom the container sees the neighbour, "" if not at all."""
        try:
            return ask_tcp(self.neighbour, OWN[family], port, timeout=0.5)
        except OSError:
            return ""


@pytest.fixture(params=["nftables", "iptables"])
def words(request: pytest.FixtureRequest) -> list[str]:
    return [f"firewall={request.param}"]


@pytest.fixture
def world(tmp_path: Path, words: list[str]) -> Iterator[World]:
    with hosts() as here, ExitStack() as stack:
        sock, process = rpc.start("sampan.helpers.network", [str(tmp_path / "state"), *words])
        stack.callback(process.wait, PATIENCE)
        stack.enter_context(sock)
        yield World(here, rpc.connect(Plumber, sock, PATIENCE), stack)


@pytest.mark.parametrize("family", [4, 6])
def test_routed_ports_are_reached_at_the_containers_address_and_no_others(
    world: World, family: int
) -> None:
    world.bridge(mode="routed", mode6="routed")
    container = world.container()
    with tcp_server(container.number, 80), tcp_server(container.number, 81):
        assert world.neighbour_reaches(80, family) == ""
        [made] = world.open(80, family)
        assert (made.host_port, made.routed) == (0, True)
        world.await_neighbour(80, family)
        assert world.neighbour_reaches(81, family) == ""
        assert world.plumber.endpoints()[0].ports == [made]
        world.open(81, family)
        world.plumber.unpublish("e2", [made])
        assert world.neighbour_reaches(80, family) == ""
        world.await_neighbour(81, family)


@pytest.mark.parametrize("family", [4, 6])
def test_a_routed_family_keeps_its_addresses_and_the_other_does_not(
    world: World, family: int
) -> None:
    world.bridge(**{"mode" if family == 4 else "mode6": "routed"})
    container = world.container()
    other = 10 - family
    with tcp_server(world.neighbour, 80):
        assert ask_tcp(container.number, OTHERS[family], 80) == OWN[family]
        assert ask_tcp(container.number, OTHERS[other], 80) == US[other]


@pytest.mark.parametrize("family", [4, 6])
def test_an_unprotected_family_is_reached_by_whoever_has_a_route(world: World, family: int) -> None:
    world.bridge(**{"mode" if family == 4 else "mode6": "nat-unprotected"})
    container = world.container()
    with tcp_server(container.number, 80), tcp_server(world.neighbour, 80):
        world.await_neighbour(80, family)
        assert world.neighbour_reaches(80, 10 - family) == ""
        assert ask_tcp(container.number, OTHERS[family], 80) == US[family]


def test_an_isolated_network_is_between_containers_alone(world: World) -> None:
    world.bridge(mode="isolated", mode6="isolated", internal=True)
    one, two = world.container(2), world.container(3)
    with inside(world.host):
        shown = ["ip", "-o", "address", "show", "dev", "br30", "scope", "global"]
        assert subprocess.run(shown, check=True, capture_output=True).stdout == b""
    with tcp_server(one.number, 80):
        assert ask_tcp(two.number, "172.30.0.2", 80) == "172.30.0.3"
        assert ask_tcp(two.number, "fd00:30::2", 80) == "fd00:30::3"
        with pytest.raises(OSError, match=r"timed out|unreachable"):
            ask_tcp(world.host, "172.30.0.2", 80, timeout=0.5)


@pytest.mark.parametrize(
    "words", [["firewall=nftables", "ipv6=unfiltered"], ["firewall=iptables", "ipv6=unfiltered"]]
)
def test_without_rules_of_ipv6_that_family_is_the_administrators(world: World) -> None:
    world.bridge()
    container = world.container()
    mappings = [
        PortMapping(protocol="tcp", host_address=it, host_port=8080, container_port=80)
        for it in ("0.0.0.0", "::")
    ]
    world.plumber.publish("e2", mappings)
    with tcp_server(container.number, 80), tcp_server(container.number, 81):
        world.await_neighbour(81, 6)
        assert world.neighbour_reaches(81, 4) == ""
        assert ask_tcp(world.neighbour, HOST, 8080) == NEIGHBOUR
        assert ask_tcp(world.neighbour, HOST6, 8080) == "172.30.0.1"  # by a relay
    with inside(world.host):
        saved = subprocess.run(["ip6tables-save"], check=True, capture_output=True, text=True)
    assert "DOCKER" not in saved.stdout


@pytest.mark.parametrize("words", [[]])
def test_an_endpoint_has_sysctls_of_its_own(world: World) -> None:
    world.bridge()
    container = world.container(sysctls={"ipv4/conf/log_martians": "1"}, interface="lan0")
    with inside(container.number):
        assert read_sysctl("ipv4/conf/lan0/log_martians") == "1"
        assert read_sysctl("ipv4/conf/lo/log_martians") == "0"
    for name in ("ipv4/conf/../../ip_forward", "core/somaxconn", "ipv4/ip_forward"):
        with pytest.raises(InvalidArgument, match="invalid sysctl of an interface"):
            world.container(3, sysctls={name: "1"})
