"""Netlink: messages, their attributes, and a socket that sends them.

Several requests go to the kernel in one packet, so that an interface is set up in two system
calls. Figures and the reasons for not using a library: docs/decisions/004-own-netlink.md.
Source: linux/netlink.h; netlink(7).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_EXT_ACK: Final = 11
NETLINK_CAP_ACK: Final = 10

NLM_F_REQUEST, NLM_F_ACK = 0x01, 0x04
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_ACK_TLVS: Final = 0x200
NLMSGERR_ATTR_MSG: Final = 1
NLA_F_NESTED, NLA_TYPE_MASK = 1 << 15, 0x3FFF

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_RECEIVE_BYTES: Final = 64 << 10


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute with its padding."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def u16(kind: int, value: int) -> bytes:
    """Return a 16-bit attribute."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """Return a 32-bit attribute."""
    return _ATTRIBUTE.pack(8, kind) + struct.pack("=I", value)


def text(kind: int, value: str) -> bytes:
    """Return a string attribute, with the zero byte that the kernel wants."""
    return attribute(kind, value.encode() + b"\0")


@dataclass(frozen=True, slots=True)
class Message:
    """A request without its header."""

    type: int
    body: bytes
    flags: int = 0


def attributes(data: bytes | memoryview) -> dict[int, bytes]:
    """Return the attributes in `data` by kind."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = bytes(data[at + 4 : at + length])
        at += (length + 3) & ~3
    return found


def string(value: bytes | None) -> str:
    """Return the text of a string attribute; "" if it is not there."""
    return (value or b"").rstrip(b"\0").decode(errors="replace")


class NetlinkSocket:
    """A netlink socket in the network namespace where it was made, for one thread."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, *messages: Message) -> None:
        """Carry out the requests in order; raise OSError for the first that failed.

        The kernel goes on after a failure, so a later request of the same call may have worked.
        """
        for error in self.attempt(*messages):
            if error:
                raise error

    def attempt(self, *messages: Message) -> list[OSError | None]:
        """Carry out the requests and return what each came to."""
        first = self._sequence + 1
        self._socket.send(b"".join(self._packed(it, NLM_F_ACK) for it in messages))
        results: dict[int, OSError | None] = {}
        while len(results) < len(messages):
            for kind, flags, sequence, body in self._receive():
                if kind == NLMSG_ERROR and sequence >= first:
                    results[sequence] = _error(body, flags)
        return [results[sequence] for sequence in sorted(results)]

    def ask(self, message: Message) -> bytes:
        """Return the body of the one answer to a request; raise the kernel's OSError."""
        self._socket.send(self._packed(message, 0))
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence == self._sequence:
                    if kind == NLMSG_ERROR:
                        raise _error(body, flags) or OSError("an empty answer from netlink")
                    return body

    def dump(self, message: Message) -> Iterator[bytes]:
        """Yield the bodies of what a dump request returns."""
        self._socket.send(self._packed(message, NLM_F_DUMP))
        wanted = self._sequence
        done = False
        while not done:
            for kind, flags, sequence, body in self._receive():
                if sequence != wanted:
                    continue
                if kind == NLMSG_DONE:
                    done = True
                elif kind == NLMSG_ERROR:
                    raise _error(body, flags) or OSError("an empty answer to a netlink dump")
                else:
                    yield body

    def _packed(self, message: Message, flags: int) -> bytes:
        """Return a message with its header and the next sequence number, padded."""
        self._sequence += 1
        flags |= NLM_F_REQUEST | message.flags
        length = _HEADER.size + len(message.body)
        head = _HEADER.pack(length, message.type, flags, self._sequence, 0)
        return head + message.body + bytes(-length % 4)

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        packet = self._socket.recv(_RECEIVE_BYTES)
        found = []
        at = 0
        while at + _HEADER.size <= len(packet):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(packet, at)
            found.append((kind, flags, sequence, packet[at + _HEADER.size : at + length]))
            at += (max(length, _HEADER.size) + 3) & ~3
        return found


def _error(body: bytes, flags: int) -> OSError | None:
    number = -int.from_bytes(body[:4], "little", signed=True)
    if not number:
        return None
    said = ""
    if flags & NLM_F_ACK_TLVS:  # NETLINK_CAP_ACK: only the header of the request is repeated
        said = string(attributes(body[4 + _HEADER.size :]).get(NLMSGERR_ATTR_MSG))
    return OSError(number, said or os.strerror(number))
