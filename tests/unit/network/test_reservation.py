"""Which mappings share a host port. What the kernel says is asked in tests/contract."""

from __future__ import annotations

from sampan.network.plumber import PortMapping
from sampan.network.reservation import groups


def mapping(address: str, host: int = 0, container: int = 80, end: int = 0) -> PortMapping:
    return PortMapping(
        protocol="tcp",
        host_address=address,
        host_port=host,
        container_port=container,
        host_port_end=end,
    )


def test_neighbours_that_differ_only_in_the_address_share_a_port() -> None:
    found = list(groups([mapping("0.0.0.0"), mapping("::"), mapping("0.0.0.0", container=81)]))
    assert [len(group) for group in found] == [2, 1]


def test_the_same_address_twice_means_two_ports() -> None:
    both = [mapping("0.0.0.0"), mapping("::")]
    assert [len(group) for group in groups(both + both)] == [2, 2]


def test_no_mappings_are_no_groups() -> None:
    assert list(groups([])) == []
