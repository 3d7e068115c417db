"""DNS messages: questions read, answers written. Pure functions; hostile bytes raise Malformed.

Only what a resolver of names and addresses needs: one question, answers whose owner is the name
that was asked. What is forwarded passes through as it is. Why this is no library's work, with
figures: docs/decisions/008-own-dns-messages.md. Source: RFC 1035, RFC 6891.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

A, PTR, AAAA, OPT = 1, 12, 28, 41
IN: Final = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE: Final = 0x7800
TTL: Final = 600  # seconds; moby libnetwork/resolver.go
PLAIN_UDP: Final = 512  # bytes of an answer to who does not say how much it takes
EDNS_UDP: Final = 1232  # bytes that we offer to take, and send at most
MESSAGE: Final = 65535

_HEADER: Final = struct.Struct("!HHHHHH")
_TAIL: Final = struct.Struct("!HH")  # type and class of a question
_RECORD: Final = struct.Struct("!HHHIH")  # pointer to the name asked, type, class, TTL, length
_OPT: Final = b"\0" + struct.pack("!HHIH", OPT, EDNS_UDP, 0, 0)


class Malformed(ValueError):
    """Bytes that are no question; `answer` is what to say to them, b"" for nothing."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__("malformed DNS message")
        self.answer = answer


@dataclass(slots=True)
class Question:
    """What a client asks."""

    id: int
    flags: int
    name: str  # lower case, without the final dot
    kind: int
    klass: int
    wire: bytes  # the question section as it came
    takes: int  # bytes of an answer by UDP
    edns: bool


def parse(packet: bytes) -> Question:
    """Read a message with one question."""
    if len(packet) < _HEADER.size:
        raise Malformed
    number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(packet)
    if flags & QR:
        raise Malformed  # an answer is never answered
    if flags & OPCODE:
        raise Malformed(_bare(number, flags, NOTIMP))
    if questions != 1:
        raise Malformed(_bare(number, flags, FORMERR))
    try:
        name, at = _name(packet, _HEADER.size)
        kind, klass = _TAIL.unpack_from(packet, at)
        takes = 0 if answers or authorities else _edns(packet, at + 4, additional)
    except (IndexError, struct.error, ValueError):
        raise Malformed(_bare(number, flags, FORMERR)) from None
    wire = packet[_HEADER.size : at + 4]
    return Question(number, flags, name, kind, klass, wire, takes or PLAIN_UDP, bool(takes))


def _name(packet: bytes, at: int) -> tuple[str, int]:
    labels = []
    start = at
    while length := packet[at]:
        if length > 63 or at - start > 253:  # a pointer, or too long
            raise ValueError
        labels.append(packet[at + 1 : at + 1 + length])
        at += 1 + length
    # Dots inside labels are legal and match nothing of ours.
    return ".".join(label.decode("latin-1") for label in labels).lower(), at + 1


def _edns(packet: bytes, at: int, additional: int) -> int:
    """Return how much the client takes by its OPT record; 0 without one."""
    for _ in range(additional):
        is_root = packet[at] == 0
        while length := packet[at]:
            if length > 63:
                at += 1  # a pointer ends the name
                break
            at += 1 + length
        kind, size, _, length = struct.unpack_from("!HHIH", packet, at + 1)
        if is_root and kind == OPT:
            return max(PLAIN_UDP, min(int(size), EDNS_UDP))
        at += 11 + length
    return 0


def _bare(number: int, flags: int, code: int) -> bytes:
    return _HEADER.pack(number, QR | flags & (OPCODE | RD) | RA | code, 0, 0, 0, 0)


def answer(
    question: Question, records: Sequence[bytes] = (), *, code: int = NOERROR, limit: int = 0
) -> bytes:
    """Return an answer of records' data, all of the type that was asked.

    What does not fit into `limit` (0: what the client takes by UDP) is left out and marked as
    truncated, so that the client asks again by TCP.
    """
    head = struct.pack("!HHH", 0xC00C, question.kind, IN)  # 0xc00c points to the name asked
    body = b"".join([head + struct.pack("!IH", TTL, len(data)) + data for data in records])
    count = len(records)
    flags = QR | question.flags & (RD | CD) | RA | code
    end = _OPT if question.edns else b""
    size = _HEADER.size + len(question.wire) + len(body) + len(end)
    if size > (limit or question.takes):
        body, count, flags = b"", 0, flags | TC
    return (
        _HEADER.pack(question.id, flags, 1, count, 0, 1 if end else 0) + question.wire + body + end
    )


def encode_name(name: str) -> bytes:
    """Return a name as labels; ValueError for what is none."""
    wire = b""
    for label in name.encode().split(b"."):
        if not 0 < len(label) < 64:
            raise ValueError(f"no domain name: {name!r}")
        wire += bytes([len(label)]) + label
    if len(wire) > 254:
        raise ValueError(f"no domain name: {name!r}")
    return wire + b"\0"


def address_of(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a PTR question is about; None if it is about something else."""
    try:
        if name.endswith(".in-addr.arpa"):
            parts = name.removesuffix(".in-addr.arpa").split(".")
            return IPv4Address(".".join(reversed(parts)))
        if name.endswith(".ip6.arpa"):
            nibbles = name.removesuffix(".ip6.arpa").split(".")
            if len(nibbles) == 32 and all(len(nibble) == 1 for nibble in nibbles):
                return IPv6Address(bytes.fromhex("".join(reversed(nibbles))))
    except ValueError:
        pass
    return None


def packed(addresses: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    """Return IPv4 and IPv6 addresses as records have them."""
    parsed = [ip_address(text) for text in addresses]
    return (
        [each.packed for each in parsed if each.version == 4],
        [each.packed for each in parsed if each.version == 6],
    )
