"""Just enough D-Bus to ask systemd by its private socket: calls, replies, signals; no bus.

Source: the D-Bus specification, "Message Protocol" and "Authentication Protocol"; systemd's
src/core/dbus.c for what the private socket leaves out (no Hello, no names, no subscription).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Final, Self

CALL, REPLY, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _SIGNATURE = 1, 2, 3, 4, 5, 8
MESSAGE_BYTES: Final = 1 << 20


class DBusError(Exception):
    """An error that the other side named."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Variant:
    """A value with its type: one of the signatures that `Writer.value` knows."""

    signature: str
    value: Any


Properties = list[tuple[str, Variant]]


class Writer:
    """Packs values, little-endian, each at its alignment."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        """Fill up with zeros to a multiple of `size`."""
        self.data += bytes(-len(self.data) % size)

    def number(self, kind: str, value: int) -> None:
        """Write a byte (B), a 32 (I) or a 64 bit number (Q)."""
        self.align(struct.calcsize(kind))
        self.data += struct.pack("<" + kind, value)

    def string(self, value: str) -> None:
        """Write a string or an object path."""
        raw = value.encode()
        self.number("I", len(raw))
        self.data += raw + b"\0"

    def signature(self, value: str) -> None:
        """Write a signature."""
        self.data += bytes([len(value)]) + value.encode() + b"\0"

    def value(self, signature: str, value: Any) -> None:
        """Write a value of one of the types that systemd's calls have."""
        if signature in ("s", "o"):
            self.string(value)
        elif signature == "b":
            self.number("I", int(value))
        elif signature in ("u", "t"):
            self.number({"u": "I", "t": "Q"}[signature], value)
        elif signature == "ay":
            self.number("I", len(value))
            self.data += bytes(value)
        elif signature == "au":
            self.number("I", 4 * len(value))
            for each in value:
                self.number("I", each)
        elif signature == "a(sv)":
            self._properties(value)
        elif signature == "a(sa(sv))" and not value:
            self.number("I", 0)
            self.align(8)
        else:
            raise ValueError(f"no value of type {signature} can be written")

    def _properties(self, properties: Properties) -> None:
        self.number("I", 0)
        place = len(self.data)
        self.align(8)
        start = len(self.data)
        for name, variant in properties:
            self.align(8)
            self.string(name)
            self.signature(variant.signature)
            self.value(variant.signature, variant.value)
        struct.pack_into("<I", self.data, place - 4, len(self.data) - start)


class Reader:
    """Unpacks the types that occur in headers and in the answers that are read here."""

    def __init__(self, data: bytes) -> None:
        self.data, self.offset = data, 0

    def align(self, size: int) -> None:
        """Skip to a multiple of `size`."""
        self.offset += -self.offset % size

    def number(self, kind: str) -> int:
        """Read a number; see `Writer.number`."""
        size = struct.calcsize(kind)
        self.align(size)
        (value,) = struct.unpack_from("<" + kind, self.data, self.offset)
        self.offset += size
        return int(value)

    def string(self) -> str:
        """Read a string or an object path."""
        return self._text(self.number("I"))

    def signature(self) -> str:
        """Read a signature."""
        return self._text(self.number("B"))

    def _text(self, length: int) -> str:
        raw = self.data[self.offset : self.offset + length]
        if len(raw) != length:
            raise ValueError("the message ends early")
        self.offset += length + 1
        return raw.decode("utf-8", "replace")

    def value(self, signature: str) -> str | int:
        """Read one value of a simple type."""
        if signature in ("s", "o"):
            return self.string()
        if signature == "g":
            return self.signature()
        if signature in ("u", "b"):
            return self.number("I")
        raise ValueError(f"no value of type {signature} can be read")


@dataclass(slots=True)
class Message:
    """What came from the other side."""

    kind: int
    fields: dict[int, str | int] = field(default_factory=dict)
    body: bytes = b""

    @property
    def member(self) -> str:
        """The name of a signal."""
        return str(self.fields.get(_MEMBER, ""))

    def values(self) -> list[str | int]:
        """Return the body's values, all of simple types."""
        reader = Reader(self.body)
        return [reader.value(each) for each in str(self.fields.get(_SIGNATURE, ""))]


def call(
    serial: int, path: str, interface: str, member: str, arguments: list[tuple[str, Any]]
) -> bytes:
    """Pack a method call; arguments are (signature, value)."""
    body, head = Writer(), Writer()
    for signature, value in arguments:
        body.value(signature, value)
    head.data += bytes([ord("l"), CALL, 0, 1])
    head.number("I", len(body.data))
    head.number("I", serial)
    head.number("I", 0)
    for code, signature, text in (
        (_PATH, "o", path),
        (_INTERFACE, "s", interface),
        (_MEMBER, "s", member),
        (_SIGNATURE, "g", "".join(signature for signature, _ in arguments)),
    ):
        head.align(8)
        head.number("B", code)
        head.signature(signature)
        if signature == "g":
            head.signature(text)
        else:
            head.string(text)
    struct.pack_into("<I", head.data, 12, len(head.data) - 16)
    head.align(8)
    return bytes(head.data + body.data)


class Connection:
    """A connection to one peer; raises OSError where it breaks or takes too long."""

    def __init__(self, path: str, timeout: float) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._data, self._serial = b"", 0
        try:
            self._sock.settimeout(timeout)
            self._sock.connect(path)
            identity = str(os.geteuid()).encode().hex()
            self._sock.sendall(f"\0AUTH EXTERNAL {identity}\r\n".encode())
            if not self._line().startswith(b"OK "):
                raise PermissionError(errno.EACCES, "systemd does not let us in", path)
            self._sock.sendall(b"BEGIN\r\n")
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def call(
        self, path: str, interface: str, member: str, arguments: list[tuple[str, Any]]
    ) -> tuple[Message, list[Message]]:
        """Return the reply, and the signals before it; raises DBusError."""
        self._serial += 1
        self._sock.sendall(call(self._serial, path, interface, member, arguments))
        signals: list[Message] = []
        while True:
            message = self.receive()
            if message.kind == SIGNAL:
                signals.append(message)
            elif message.fields.get(_REPLY_SERIAL) == self._serial:
                if message.kind == ERROR:
                    texts = [each for each in message.values() if isinstance(each, str)]
                    raise DBusError(str(message.fields.get(_ERROR_NAME)), "".join(texts[:1]))
                return message, signals

    def receive(self) -> Message:
        """Return the next message."""
        head = self._exactly(16)
        if head[:1] != b"l":
            raise OSError(errno.EPROTO, "no little-endian D-Bus message")
        length, _, fields = struct.unpack_from("<III", head, 4)
        if length + fields > MESSAGE_BYTES:
            raise OSError(errno.EMSGSIZE, "a D-Bus message is too long")
        rest = self._exactly(fields + -(16 + fields) % 8)
        message = Message(head[1], body=self._exactly(length))
        reader = Reader(head + rest)
        reader.offset = 16
        while reader.offset < 16 + fields:
            reader.align(8)
            code = reader.number("B")
            message.fields[code] = reader.value(reader.signature())
        return message

    def _more(self) -> None:
        data = self._sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "systemd has closed the connection")
        self._data += data

    def _exactly(self, length: int) -> bytes:
        while len(self._data) < length:
            self._more()
        taken, self._data = self._data[:length], self._data[length:]
        return taken

    def _line(self) -> bytes:
        while b"\r\n" not in self._data:
            self._more()
        line, _, self._data = self._data.partition(b"\r\n")
        return line
