"""DNS messages; dnspython, which shares no line with them, reads and writes the other side."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.network.resolver import messages
from sampan.network.resolver.messages import Malformed, Question, parse

LABELS = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_", min_size=1, max_size=63)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join).filter(lambda it: len(it) <= 250)


def query(name: str = "web", kind: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]


@given(NAMES, st.sampled_from(["A", "AAAA", "PTR", "MX", "TXT", "HTTPS"]))
def test_questions_of_a_library_are_read(name: str, kind: str) -> None:
    asked = dns.message.make_query(name, kind)
    read = parse(asked.to_wire())
    assert (read.id, read.name) == (asked.id, name.lower())
    assert read.kind == dns.rdatatype.from_text(kind)
    assert (read.takes, read.edns) == (512, False)


@given(st.integers(0, 65535))
def test_what_a_client_takes_is_between_512_and_what_fits_every_path(size: int) -> None:
    read = parse(query(use_edns=0, payload=size))
    assert read.edns
    assert read.takes == max(512, min(size, 1232))


@given(NAMES, st.lists(st.ip_addresses(v=4).map(str), max_size=20), st.booleans())
def test_answers_are_read_by_a_library(name: str, addresses: list[str], edns: bool) -> None:
    asked = dns.message.make_query(name, "A", **({"use_edns": 0, "payload": 1232} if edns else {}))
    wire = messages.answer(parse(asked.to_wire()), messages.packed(addresses)[0])
    answer = dns.message.from_wire(wire)
    assert asked.is_response(answer)
    assert answer.rcode() == dns.rcode.NOERROR
    assert (answer.edns >= 0) == edns
    assert answer.flags & dns.flags.RA
    if not answer.flags & dns.flags.TC:
        found = {item.address for rrset in answer.answer for item in rrset}
        assert found == set(addresses)
    assert len(wire) <= (1232 if edns else 512)


def test_ipv6_addresses_and_names_are_read_by_a_library() -> None:
    asked = dns.message.make_query("web", "AAAA")
    wire = messages.answer(parse(asked.to_wire()), messages.packed(["fd00::2"])[1])
    [rrset] = dns.message.from_wire(wire).answer
    assert rrset[0].address == "fd00::2"
    asked = dns.message.make_query(dns.reversename.from_address("172.18.0.2"), "PTR")
    wire = messages.answer(parse(asked.to_wire()), [messages.encode_name("web.net")])
    [rrset] = dns.message.from_wire(wire).answer
    assert str(rrset[0].target) == "web.net."


def test_what_does_not_fit_is_marked_as_truncated_and_complete_by_tcp() -> None:
    read = parse(query())
    many = messages.packed([f"10.0.{number}.1" for number in range(100)])[0]
    assert dns.message.from_wire(messages.answer(read, many)).flags & dns.flags.TC
    [rrset] = dns.message.from_wire(messages.answer(read, many, limit=65535)).answer
    assert len(rrset) == 100


@given(st.ip_addresses())
def test_reverse_names_lead_to_their_address(address: object) -> None:
    # The library takes a mapped address for the one of IPv4 that it stands for.
    expected = getattr(address, "ipv4_mapped", None) or address
    name = dns.reversename.from_address(str(address)).to_text().rstrip(".")
    assert messages.address_of(name) == expected


@pytest.mark.parametrize("name", ["in-addr.arpa", "x.in-addr.arpa", "1.2.ip6.arpa", "web", ""])
def test_other_names_are_no_reverse_names(name: str) -> None:
    assert messages.address_of(name) is None


@given(st.binary(max_size=600))
def test_any_bytes_are_a_question_or_malformed(packet: bytes) -> None:
    try:
        read = parse(packet)
    except Malformed:
        return
    assert isinstance(read, Question)
    assert read.wire in packet


@given(st.data())
def test_a_damaged_question_is_a_question_or_malformed(data: st.DataObject) -> None:
    packet = bytearray(query("a.long.name.example", use_edns=0))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    try:
        messages.answer(parse(bytes(packet)), [b"\1\2\3\4"])
    except Malformed:
        pass


def test_answers_are_never_answered_and_other_operations_are_refused() -> None:
    answer = dns.message.make_response(dns.message.make_query("web", "A")).to_wire()
    with pytest.raises(Malformed) as caught:
        parse(answer)
    assert caught.value.answer == b""
    packet = bytearray(query())
    packet[2] |= 0x28  # UPDATE
    with pytest.raises(Malformed) as caught:
        parse(bytes(packet))
    assert dns.message.from_wire(caught.value.answer).rcode() == dns.rcode.NOTIMP


def test_two_questions_and_compressed_names_are_malformed() -> None:
    packet = bytearray(query())
    struct.pack_into("!H", packet, 4, 2)
    for bad in (bytes(packet), query()[:12] + b"\xc0\x0c\0\1\0\1"):
        with pytest.raises(Malformed) as caught:
            parse(bad)
        assert caught.value.answer[3] & 0xF == messages.FORMERR


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_not_encoded(name: str) -> None:
    with pytest.raises(ValueError, match="no domain name"):
        messages.encode_name(name)
