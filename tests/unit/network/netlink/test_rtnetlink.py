"""Requests of rtnetlink as bytes."""

from __future__ import annotations

import struct
from ipaddress import IPv4Interface

import pytest

from sampan.network.netlink.protocol import attributes
from sampan.network.netlink.rtnetlink import (
    IFA_BROADCAST,
    IFF_UP,
    IFLA_MASTER,
    add_address,
    set_link,
)


def test_a_change_names_only_what_is_to_change() -> None:
    message = set_link(7, up=False, master=0)
    _, _, index, flags, change = struct.unpack_from("=BxHiII", message.body)
    assert (index, flags, change) == (7, 0, IFF_UP)
    assert attributes(message.body[16:]) == {IFLA_MASTER: bytes(4)}


def test_an_address_goes_with_its_prefix_length() -> None:
    message = add_address(3, IPv4Interface("172.17.0.2/16"))
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
    message = add_address(3, IPv4Interface(address))
    assert attributes(message.body[8:]).get(IFA_BROADCAST) == broadcast
