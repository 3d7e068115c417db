"""Addresses and subnets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import Conflict, InvalidArgument, NoSpace
from sampan.network import ipam
from sampan.network.ipam import AddressSpace


def space(subnet: str = "172.17.0.0/16", **more: object) -> AddressSpace[IPv4Address]:
    network = IPv4Network(subnet)
    return AddressSpace(network, network.network_address + 1, **more)  # type: ignore[arg-type]


def test_subnets_come_in_docker_s_order() -> None:
    found = ipam.subnets()
    assert found[:4] == ["172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16", "172.20.0.0/16"]
    assert found[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    assert len(found) == 31


def test_pools_of_the_administrator_are_cut_into_subnets() -> None:
    assert ipam.subnets([("10.0.0.0/23", 24)]) == ["10.0.0.0/24", "10.0.1.0/24"]
    with pytest.raises(InvalidArgument):
        ipam.subnets([("10.0.0.0/24", 16)])


def test_the_mac_address_follows_from_the_address() -> None:
    assert ipam.mac_of(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"


def test_addresses_are_given_in_order_after_the_gateway() -> None:
    one = space()
    assert [str(one.take()) for _ in range(3)] == ["172.17.0.2", "172.17.0.3", "172.17.0.4"]


def test_an_address_given_back_waits_until_the_others_had_their_turn() -> None:
    one = space("10.0.0.0/29")
    first = one.take()
    one.take()
    one.give_back(first)
    assert str(one.take()) == "10.0.0.4"
    rest = [str(one.take()) for _ in range(3)]
    assert rest == ["10.0.0.5", "10.0.0.6", "10.0.0.2"]


def test_an_exhausted_range_has_no_space() -> None:
    one = space("10.0.0.0/30")
    one.take()
    with pytest.raises(NoSpace, match=r"no available addresses in 10\.0\.0\.0/30"):
        one.take()


def test_a_wanted_address_must_be_free_and_inside() -> None:
    one = space("10.0.0.0/24")
    assert one.take(IPv4Address("10.0.0.9")) == IPv4Address("10.0.0.9")
    for taken in ("10.0.0.9", "10.0.0.1", "10.0.0.0", "10.0.0.255"):
        with pytest.raises(Conflict, match="Address already in use"):
            one.take(IPv4Address(taken))
    with pytest.raises(InvalidArgument, match=r"10\.0\.1\.9"):
        one.take(IPv4Address("10.0.1.9"))


def test_a_range_and_reserved_addresses_limit_what_is_given() -> None:
    one = space(
        "10.0.0.0/24",
        ip_range=IPv4Network("10.0.0.128/30"),
        auxiliary={"printer": IPv4Address("10.0.0.129")},
    )
    assert [str(one.take()) for _ in range(3)] == ["10.0.0.128", "10.0.0.130", "10.0.0.131"]


@given(st.lists(st.booleans(), max_size=60))
def test_no_address_is_ever_given_twice(steps: list[bool]) -> None:
    one, held = space("10.0.0.0/28"), []
    for take in steps:
        if take and len(held) < 13:
            address = one.take()
            assert address not in held
            held.append(address)
        elif held:
            one.give_back(held.pop(0))


def test_addresses_of_ipv6_are_given_out_in_order() -> None:
    one = ipam.AddressSpace(IPv6Network("fd00::/64"), IPv6Address("fd00::1"))
    assert [str(one.take()) for _ in range(2)] == ["fd00::2", "fd00::3"]
    assert one.take(IPv6Address("fd00::ffff")) == IPv6Address("fd00::ffff")
    with pytest.raises(InvalidArgument):
        one.take(IPv6Address("fd01::1"))


def test_a_local_range_is_the_seed_s_own_and_free() -> None:
    first = ipam.unique_local("seed")
    assert (first.prefixlen, str(first)[:2]) == (64, "fd")
    assert ipam.unique_local("seed") == first != ipam.unique_local("other")
    second = ipam.unique_local("seed", [first])
    assert not second.overlaps(first)
