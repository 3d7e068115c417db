"""Netlink messages as bytes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from sampan.network.netlink.protocol import NLA_F_NESTED, attribute, attributes, nested, text


def test_attributes_are_padded_to_four_bytes() -> None:
    assert attribute(3, b"eth0\0") == struct.pack("=HH", 9, 3) + b"eth0\0\0\0\0"


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_what_is_packed_is_read_again(wanted: dict[int, bytes]) -> None:
    packed = b"".join(attribute(kind, value) for kind, value in wanted.items())
    assert attributes(packed) == wanted


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    assert isinstance(attributes(data), dict)


def test_nested_attributes_are_marked_and_found() -> None:
    packed = nested(18, text(1, "veth"))
    inner = attributes(attributes(packed)[18])
    assert inner == {1: b"veth\0"}
    assert struct.unpack_from("=HH", packed)[1] & NLA_F_NESTED
