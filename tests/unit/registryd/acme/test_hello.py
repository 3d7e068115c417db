"""Whom a TLS client wants is read from its first message, whatever that is."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.registryd.acme.hello import Hello, NoHello, parse_hello


def hello(name: str | None, *protocols: str) -> bytes:
    """Return what Python's ssl says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("name", "protocols"),
    [("registry.example.com", ("acme-tls/1",)), ("a.b", ("h2", "http/1.1")), (None, ())],
)
def test_name_and_protocols_are_read(name: str | None, protocols: tuple[str, ...]) -> None:
    wanted = Hello(name or "", tuple(one.encode() for one in protocols))
    assert parse_hello(hello(name, *protocols)) == wanted


def test_a_part_of_a_hello_is_none_yet() -> None:
    whole = hello("registry.example.com", "acme-tls/1")
    for length in range(len(whole)):
        assert parse_hello(whole[:length]) is None


def test_a_hello_in_several_records_is_one() -> None:
    whole = hello("registry.example.com", "acme-tls/1")
    message = whole[5:]
    split = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (message[:7], message[7:100], message[100:])
    )
    assert parse_hello(split) == parse_hello(whole)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"]
)
def test_what_is_no_hello_is_told(data: bytes) -> None:
    with pytest.raises(NoHello):
        parse_hello(data)


@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 255))
def test_no_bytes_do_harm(garbage: bytes, place: int, value: int) -> None:
    whole = bytearray(hello("registry.example.com", "acme-tls/1"))
    whole[place % len(whole)] = value
    for data in (garbage, b"\x16\x03\x01" + garbage, bytes(whole), bytes(whole) + garbage):
        try:
            parse_hello(data)
        except NoHello:
            pass


def test_empty_records_are_no_way_to_a_hello() -> None:
    with pytest.raises(NoHello):
        parse_hello(b"\x16\x03\x01\x00\x00" * 3)
