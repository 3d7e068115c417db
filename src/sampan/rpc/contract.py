"""A Protocol class compiled to message types, and the packets that carry them.

A packet is one SOCK_SEQPACKET datagram: one byte that says where the body is, a msgpack body, and
beside it the descriptors. A body too large for a datagram travels in a memfd.
"""

from __future__ import annotations

import inspect
import os
import socket
from functools import reduce
from operator import or_
from typing import Any, Self, get_type_hints

import msgspec

PACKET_BYTES = (
    64 << 10
)  # below the kernel's default limit of a Unix datagram (net.core.wmem_default)
PACKET_FDS = 32
BODY_BYTES = 16 << 20  # of a body in a memfd: no honest call comes near
INLINE, IN_MEMFD = b"i", b"m"


class Fd:
    """An open descriptor inside a message; on the wire, its place in the packet.

    Requests lend their descriptors: the caller keeps them, the service must duplicate what it
    wants to keep. Replies give them away: the caller owns what it receives.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        """Return the descriptor's number, as `select` and `os` functions expect it."""
        return self.number

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def detach(self) -> int:
        """Return the number and forget it: the caller closes it."""
        number, self.number = self.number, -1
        return number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Fd({self.number})"


class Ok(msgspec.Struct, tag="ok"):
    """A reply: what the method returned."""

    value: Any


class Failure(msgspec.Struct, tag="failure"):
    """A reply: the code of a class of `sampan.errors`, and its message."""

    code: str
    message: str


class Contract:
    """The public methods of a Protocol class, compiled once to request and reply types."""

    def __init__(self, protocol: type) -> None:
        self.requests: dict[str, type[msgspec.Struct]] = {}
        self.replies: dict[str, Any] = {}
        self.positional: dict[str, tuple[str, ...]] = {}
        for name, method in inspect.getmembers(protocol, inspect.isfunction):
            if name.startswith("_"):
                continue
            hints = get_type_hints(method)
            returned = hints.pop("return")
            self.replies[name] = msgspec.defstruct("Ok", [("value", returned)], tag="ok") | Failure
            self.requests[name] = msgspec.defstruct(
                name,
                list(_fields(method, hints)),
                tag=name,
                forbid_unknown_fields=True,
                kw_only=True,
            )
            self.positional[name] = tuple(_positional(method))
        self.request: Any = reduce(or_, self.requests.values())


def _fields(method: Any, hints: dict[str, Any]) -> Any:
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.default is parameter.empty:
            yield parameter.name, hints[parameter.name]
        else:
            yield parameter.name, hints[parameter.name], parameter.default


def _positional(method: Any) -> Any:
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            yield parameter.name


def pack(message: object) -> tuple[bytes, list[Fd]]:
    """Return the body of `message` and the descriptors that travel beside it."""
    fds: list[Fd] = []

    def place(value: object) -> int:
        if not isinstance(value, Fd):
            raise TypeError(f"{type(value).__name__} cannot cross a process boundary")
        fds.append(value)
        return len(fds) - 1

    return msgspec.msgpack.encode(message, enc_hook=place), fds


def unpack(kind: Any, body: bytes, fds: list[Fd]) -> Any:
    """Return the message of type `kind`; raise msgspec.DecodeError if it is none."""

    def at(expected: type, place: object) -> Fd:
        if expected is not Fd or not isinstance(place, int) or place not in range(len(fds)):
            raise ValueError(f"the packet carries no descriptor {place!r}")
        return fds[place]

    return msgspec.msgpack.decode(body, type=kind, dec_hook=at)


def send(sock: socket.socket, body: bytes, fds: list[Fd]) -> None:
    """Send one packet; the descriptors stay open here."""
    if len(body) < PACKET_BYTES:
        socket.send_fds(sock, [INLINE + body], [fd.number for fd in fds])
        return
    memfd = os.memfd_create("sampan-rpc", os.MFD_CLOEXEC)
    try:
        with open(memfd, "wb", closefd=False) as file:
            file.write(body)
        socket.send_fds(sock, [IN_MEMFD], [memfd, *(fd.number for fd in fds)])
    finally:
        os.close(memfd)


def receive(sock: socket.socket) -> tuple[bytes, list[Fd]]:
    """Return the next packet; an empty body means that the peer is gone.

    A packet that breaks the rules (cut short, no body, unknown first byte) is returned with the
    body 0xc1, which never begins a msgpack value, so that it fails where all bad bodies fail.
    """
    packet, numbers, flags, _ = socket.recv_fds(
        sock, PACKET_BYTES + 1, PACKET_FDS + 2, socket.MSG_CMSG_CLOEXEC
    )
    fds = [Fd(number) for number in numbers]
    if not packet:
        for fd in fds:
            fd.close()
        return b"", []
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        return b"\xc1", fds
    if packet[:1] == INLINE and len(packet) > 1:
        return packet[1:], fds
    if packet == IN_MEMFD and fds:
        with fds.pop(0) as memfd:
            return _read_whole(memfd.number), fds
    return b"\xc1", fds


def _read_whole(fd: int) -> bytes:
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, size, 0) if 0 < size <= BODY_BYTES else b"\xc1"
    except OSError:
        return b"\xc1"
