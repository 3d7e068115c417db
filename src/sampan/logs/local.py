"""The driver local: compact binary files, compressed when they are rotated.

A file is a preamble (magic, length, the attributes as JSON) and entries. An entry is a block of
lines that were read together: header (length of the payload, time, stream, flags), payload, and
the length again, so that the end of a log is found without reading its beginning.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

import msgspec

from sampan.logs.driver import LogLine

MAGIC = b"SAMPANL1"
_LENGTH = struct.Struct("<I")
_HEADER = struct.Struct("<IQB")  # payload bytes, nanoseconds, stream
_STREAMS = {"stdout": 1, "stderr": 2}
_NAMES = {1: "stdout", 2: "stderr"}
_OVERHEAD = _HEADER.size + _LENGTH.size
_PAYLOAD_BYTES = 1 << 20  # more is damage


class Local:
    """The file format of local."""

    def __init__(self) -> None:
        self._attributes: dict[str, str] = {}

    def preamble(self, attributes: Mapping[str, str]) -> bytes:
        """Return the magic and the attributes."""
        document = msgspec.json.encode(dict(attributes))
        return MAGIC + _LENGTH.pack(len(document)) + document

    def encode(self, stream: str, block: bytes, time: int) -> bytes:
        """Return one entry for the whole block."""
        size = len(block)
        return _HEADER.pack(size, time, _STREAMS[stream]) + block + _LENGTH.pack(size)

    def decode(self, buffer: bytes) -> tuple[list[LogLine], int]:
        """Return the lines of the complete entries; after damage nothing more is read."""
        lines: list[LogLine] = []
        position, size = 0, len(buffer)
        while size - position >= _OVERHEAD:
            length, time, number = _HEADER.unpack_from(buffer, position)
            end = position + _OVERHEAD + length
            if length > _PAYLOAD_BYTES or number not in _NAMES:
                return lines, size
            if end > size:
                break
            block = buffer[position + _HEADER.size : end - _LENGTH.size]
            stream = _NAMES[number]
            lines += [LogLine(time, stream, line, self._attributes) for line in _split(block)]
            position = end
        return lines, position

    def start(self, descriptor: int) -> int:
        """Read the attributes; return where the entries begin (0 for a file with no preamble)."""
        head = os.pread(descriptor, len(MAGIC) + _LENGTH.size, 0)
        if len(head) < len(MAGIC) + _LENGTH.size or not head.startswith(MAGIC):
            return 0
        (length,) = _LENGTH.unpack_from(head, len(MAGIC))
        document = os.pread(descriptor, min(length, _PAYLOAD_BYTES), len(head))
        try:
            self._attributes = msgspec.json.decode(document, type=dict[str, str])
        except msgspec.DecodeError:
            self._attributes = {}
        return len(head) + int(length)

    def tail(self, descriptor: int, size: int, count: int) -> tuple[int, int]:
        """Return where to begin for the last `count` lines, and how many follow from there."""
        first = self.start(descriptor)
        position, found = size, 0
        while found < count and position - first >= _OVERHEAD:
            (length,) = _LENGTH.unpack(os.pread(descriptor, _LENGTH.size, position - _LENGTH.size))
            begin = position - _OVERHEAD - length
            if length > _PAYLOAD_BYTES or begin < first:
                break
            block = os.pread(descriptor, length, begin + _HEADER.size)
            found += block.count(b"\n") + (not block.endswith(b"\n"))
            position = begin
        return position, found

    def whole(self, descriptor: int, size: int) -> int:
        """Return the end of the last complete entry."""
        position = self.start(descriptor)
        if position == 0 or position > size:
            return 0
        while size - position >= _OVERHEAD:
            (length,) = _LENGTH.unpack(os.pread(descriptor, _LENGTH.size, position))
            end = position + _OVERHEAD + length
            if length > _PAYLOAD_BYTES or end > size:
                break
            position = end
        return position


def _split(block: bytes) -> list[bytes]:
    *lines, rest = block.split(b"\n")
    found = [line + b"\n" for line in lines]
    return [*found, rest] if rest else found
