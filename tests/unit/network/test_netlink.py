"""Netlink messages as bytes."""

from __future__ import annotations

import struct
from ipaddress import IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.network import netlink


def test_attributes_are_padded_to_four_bytes() -> None:
    assert netlink.attribute(3, b"eth0\0") == struct.pack("=HH", 9, 3) + b"eth0\0\0\0\0"


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_what_is_packed_is_read_again(wanted: dict[int, bytes]) -> None:
    packed = b"".join(netlink.attribute(kind, value) for kind, value in wanted.items())
    assert netlink.attributes(packed) == wanted


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    assert isinstance(netlink.attributes(data), dict)


def test_nested_attributes_are_marked_and_found() -> None:
    packed = netlink.nested(18, netlink.text(1, "veth"))
    inner = netlink.attributes(netlink.attributes(packed)[18])
    assert inner == {1: b"veth\0"}
    assert struct.unpack_from("=HH", packed)[1] & netlink.NLA_F_NESTED


def test_a_change_names_only_what_is_to_change() -> None:
    message = netlink.set_link(7, up=False, master=0)
    _, _, index, flags, change = struct.unpack_from("=BxHiII", message.body)
    assert (index, flags, change) == (7, 0, netlink.IFF_UP)
    assert netlink.attributes(message.body[16:]) == {netlink.IFLA_MASTER: bytes(4)}


def test_an_address_goes_with_its_prefix_length() -> None:
    message = netlink.add_address(3, IPv4Interface("172.17.0.2/16"))
    family, prefix, _, _, index = struct.unpack_from("=BBBBI", message.body)
    assert (family, prefix, index) == (2, 16, 3)


@pytest.mark.parametrize(
    ("address", "broadcast"),
    [
        ("172.17.0.2/16", bytes([172, 17, 255, 255])),
        ("10.1.1.9/30", bytes([10, 1, 1, 11])),
        ("10.1.1.8/31", None),  # both are hosts: RFC 3021
        ("10.1.1.1/32", None),
    ],
)
def test_an_address_goes_with_the_broadcast_of_its_subnet(
    address: str, broadcast: bytes | None
) -> None:
    message = netlink.add_address(3, IPv4Interface(address))
    assert netlink.attributes(message.body[8:]).get(netlink.IFA_BROADCAST) == broadcast
