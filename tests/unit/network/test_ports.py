"""Published ports: the forms of the Engine API."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.network import ports
from sampan.network.plumber import PortMapping
from sampan.network.ports import Port
from sampan.spec.docker.networks import PortBinding


def binding(port: str = "", ip: str = "") -> PortBinding:
    return PortBinding(host_ip=ip, host_port=port)


def shown(mappings: list[PortMapping]) -> list[tuple[str, int, int, str]]:
    return [(m.host_address, m.host_port, m.container_port, m.protocol) for m in mappings]


@pytest.mark.parametrize(
    ("text", "ports_"),
    [
        ("80", [Port(80, "tcp")]),
        ("80/tcp", [Port(80, "tcp")]),
        ("53/UDP", [Port(53, "udp")]),
        ("132/sctp", [Port(132, "sctp")]),
        ("8000-8002/udp", [Port(8000, "udp"), Port(8001, "udp"), Port(8002, "udp")]),
    ],
)
def test_a_port_is_a_number_or_range_with_a_protocol(text: str, ports_: list[Port]) -> None:
    assert ports.parse_ports(text) == ports_


@pytest.mark.parametrize(
    "text", ["", "/tcp", "80/", "80/icmp", "0/tcp", "65536", "-1", "8-7", "8-", "x", "٨٠", "1e3"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        ports.parse_ports(text)


@given(st.integers(1, 65535), st.sampled_from(ports.PROTOCOLS))
def test_what_is_printed_is_parsed_again(number: int, protocol: ports.Protocol) -> None:
    assert ports.parse_ports(str(Port(number, protocol))) == [Port(number, protocol)]


@given(st.text(max_size=20))
def test_no_text_raises_anything_but_invalid_argument(text: str) -> None:
    try:
        for port in ports.parse_ports(text):
            assert 1 <= port.number <= 65535
    except InvalidArgument:
        pass


def test_a_binding_without_address_means_both_families() -> None:
    found = ports.mappings({"80/tcp": [binding("8080")]})
    assert shown(found) == [("0.0.0.0", 8080, 80, "tcp"), ("::", 8080, 80, "tcp")]


def test_a_binding_with_an_address_means_that_one() -> None:
    given_ = {"80/tcp": [binding("8080", "127.0.0.1"), binding("", "[::1]")]}
    assert shown(ports.mappings(given_)) == [("127.0.0.1", 8080, 80, "tcp"), ("::1", 0, 80, "tcp")]


def test_a_mapped_ipv4_address_is_ipv4() -> None:
    found = ports.mappings({"80": [binding("80", "::ffff:127.0.0.1")]})
    assert shown(found) == [("127.0.0.1", 80, 80, "tcp")]


def test_the_daemon_s_default_address_takes_the_place_of_all() -> None:
    found = ports.mappings({"80/tcp": [binding("80")]}, default_address="10.0.0.1")
    assert shown(found) == [("10.0.0.1", 80, 80, "tcp")]


def test_a_range_of_host_ports_means_the_first_free_one() -> None:
    [found, _] = ports.mappings({"80/tcp": [binding("8000-8010")]})
    assert (found.host_port, found.host_port_end) == (8000, 8010)


def test_publish_all_gives_exposed_ports_without_binding_a_random_port() -> None:
    bindings = {"80/tcp": [binding("8080", "0.0.0.0")], "81/tcp": None}
    found = ports.mappings(bindings, ["80/tcp", "82/udp"], publish_all=True)
    assert shown(found) == [
        ("0.0.0.0", 8080, 80, "tcp"),
        ("0.0.0.0", 0, 81, "tcp"),
        ("::", 0, 81, "tcp"),
        ("0.0.0.0", 0, 82, "udp"),
        ("::", 0, 82, "udp"),
    ]
    assert shown(ports.mappings({}, ["82/udp"])) == []


@pytest.mark.parametrize(
    "bad", [binding("x"), binding("1-0"), binding("70000"), binding("80", "1.2.3"), binding(" 80")]
)
def test_bad_bindings_are_refused_at_create(bad: PortBinding) -> None:
    with pytest.raises(InvalidArgument):
        ports.check({"80/tcp": [bad]})


def test_inspect_shows_null_for_what_is_exposed_and_not_published() -> None:
    published = [
        PortMapping(protocol="tcp", host_address=address, host_port=32768, container_port=80)
        for address in ("0.0.0.0", "::")
    ]
    assert ports.port_map({"80/tcp": [binding()]}, ["80/tcp", "443/tcp"], published) == {
        "80/tcp": [binding("32768", "0.0.0.0"), binding("32768", "::")],
        "443/tcp": None,
    }


# --- ports of a container that exists ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("80", 0),
        ("8080:80", 1),
        ("127.0.0.1:8081:80/tcp", 1),
        ("127.0.0.1:8080:80", 2),
        ("80/udp", 2),
        ("9090:80", 2),
    ],
)
def test_a_port_is_taken_back_by_as_much_as_is_said_of_it(text: str, kept: int) -> None:
    bindings = {
        "80/tcp": [
            PortBinding(host_port="8080"),
            PortBinding(host_ip="127.0.0.1", host_port="8081"),
        ]
    }
    left = ports.without(bindings, [ports.Unwanted.parse(text)])
    assert sum(len(found) for found in left.values()) == kept


def test_bindings_of_both_are_together_and_none_means_any_port() -> None:
    found = ports.together({"80": [PortBinding(host_port="1")]}, {"80/tcp": None, "53/udp": []})
    assert found == {
        "80/tcp": [PortBinding(host_port="1"), PortBinding()],
        "53/udp": [PortBinding()],
    }


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "80-90", "x:80", "1.2.3:80:80"])
def test_what_is_no_port_is_not_taken_back(text: str) -> None:
    with pytest.raises(InvalidArgument):
        ports.Unwanted.parse(text)
