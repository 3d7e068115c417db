"""The first message of a TLS client, read as far as one needs to tell for whom it is.

Source: RFC 8446, 4.1.2, 4.2 and 5.1; RFC 6066, 3; RFC 7301, 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

LIMIT = 64 << 10  # bytes of a ClientHello, with the records around it
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN = 0, 16


class NoHello(ValueError):
    """What a client sent is no ClientHello."""


@dataclass(frozen=True)
class Hello:
    """Whom a client wants, and what it speaks."""

    name: str
    protocols: tuple[bytes, ...]


class _Reader:
    """Takes numbers and vectors from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, count: int) -> bytes:
        if count > len(self._data):
            raise NoHello("it ends too early")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> _Reader:
        return _Reader(self.take(self.number(width)))

    def rest(self) -> bytes:
        return self._data

    def __bool__(self) -> bool:
        return bool(self._data)


def parse_hello(data: bytes) -> Hello | None:
    """Return the ClientHello at the front of what a client has sent; None if more has to come.

    Raises NoHello.
    """
    message = b""
    while len(data) >= 5:
        if data[0] != _HANDSHAKE or data[1] != 3:
            raise NoHello("it is no handshake of TLS")
        length = int.from_bytes(data[3:5], "big")
        if not length:  # RFC 8446, 5.1; thousands of them would be looked at again and again
            raise NoHello("a record is empty")
        message += data[5 : 5 + length]
        if len(data) < 5 + length:
            break
        data = data[5 + length :]
    if data and data[0] != _HANDSHAKE:
        raise NoHello("it is no handshake of TLS")
    if message and message[0] != _CLIENT_HELLO:
        raise NoHello("it is no ClientHello")
    if len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        return None
    return _hello(_Reader(message[4 : 4 + int.from_bytes(message[1:4], "big")]))


def _hello(reader: _Reader) -> Hello:
    reader.take(2 + 32)  # legacy_version, random
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        reader.vector(width)
    name, protocols = "", []
    extensions = reader.vector(2) if reader else _Reader(b"")
    while extensions:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind == _SERVER_NAME and content:
            listed = content.vector(2)
            if listed and listed.number(1) == 0:
                name = listed.vector(2).rest().decode("ascii", "replace").lower()
        elif kind == _ALPN:
            listed = content.vector(2)
            while listed:
                protocols.append(listed.vector(1).rest())
    return Hello(name, tuple(protocols))
