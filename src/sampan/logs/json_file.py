"""The driver json-file: one JSON document per line, as Docker writes it.

    {"log":"hello\\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-01-02T03:04:05.000000006Z"}

Blocks of many lines are encoded by a handful of calls into C, never line by line.
"""

from __future__ import annotations

import os
import time as clock
from calendar import timegm
from collections.abc import Mapping

import msgspec

from sampan.logs.driver import LogLine

_CHUNK = 64 << 10
# Encoded JSON holds no raw control character, so one can stand for a pair of backslashes.
_PAIR = b"\x00"


class _Entry(msgspec.Struct):
    log: str = ""
    stream: str = "stdout"
    attrs: dict[str, str] = {}
    time: str = ""


_DECODER = msgspec.json.Decoder(_Entry)


class JsonFile:
    """The file format of json-file; `attributes` go into every entry that this codec writes."""

    def __init__(self, attributes: Mapping[str, str] | None = None) -> None:
        extra = b""
        if attributes:
            extra = b'"attrs":' + msgspec.json.encode(dict(attributes)) + b","
        self._extra = extra
        self._second, self._prefix = -1, b""
        self._parsed_prefix, self._parsed_second = "", 0

    def preamble(self, attributes: Mapping[str, str]) -> bytes:
        """Nothing: the attributes are in each entry."""
        return b""

    def encode(self, stream: str, block: bytes, time: int) -> bytes:
        """Return one line of JSON for each line in `block`, or for a piece without a newline."""
        body = msgspec.json.encode(block.decode("utf-8", "replace"))[1:-1]
        ending = b'","stream":"%b",%b"time":"%b"}\n' % (
            stream.encode(),
            self._extra,
            self._timestamp(time),
        )
        if not block.endswith(b"\n"):
            return b'{"log":"' + body + ending
        between = b"\\n" + ending + b'{"log":"'
        if b"\\\\" in body:  # a backslash in the output, which an n may follow
            body = body.replace(b"\\\\", _PAIR).replace(b"\\n", between).replace(_PAIR, b"\\\\")
        else:
            body = body.replace(b"\\n", between)
        return b'{"log":"' + body[:-8]

    def decode(self, buffer: bytes) -> tuple[list[LogLine], int]:
        """Return the entries of all complete lines; a damaged line is skipped."""
        end = buffer.rfind(b"\n") + 1
        lines = []
        for document in buffer[:end].split(b"\n"):
            if not document:
                continue
            try:
                entry = _DECODER.decode(document)
                time = self._parse_time(entry.time)
            except (msgspec.DecodeError, ValueError, RecursionError):
                continue
            lines.append(LogLine(time, entry.stream, entry.log.encode(), entry.attrs))
        return lines, end

    def start(self, descriptor: int) -> int:
        """Entries begin at once."""
        return 0

    def tail(self, descriptor: int, size: int, count: int) -> tuple[int, int]:
        """Return where the last `count` lines begin, and how many there are from there on."""
        if count <= 0:
            return size, 0
        position, found = size, 0
        while position > 0:
            length = min(_CHUNK, position)
            chunk = os.pread(descriptor, length, position - length)
            position -= length
            newlines = chunk.count(b"\n")
            if found + newlines <= count:  # the newline before the first wanted line is wanted too
                found += newlines
                continue
            at = len(chunk)
            for _ in range(count - found + 1):
                at = chunk.rfind(b"\n", 0, at)
            return position + at + 1, count
        return 0, found

    def whole(self, descriptor: int, size: int) -> int:
        """Return the end of the last complete line."""
        position = size
        while position > 0:
            length = min(_CHUNK, position)
            chunk = os.pread(descriptor, length, position - length)
            if (at := chunk.rfind(b"\n")) >= 0:
                return position - length + at + 1
            position -= length
        return 0

    def _timestamp(self, time: int) -> bytes:
        second, fraction = divmod(time, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = clock.strftime("%Y-%m-%dT%H:%M:%S", clock.gmtime(second)).encode()
        return b"%b.%09dZ" % (self._prefix, fraction)

    def _parse_time(self, text: str) -> int:
        prefix, rest = text[:19], text[19:].removesuffix("Z")
        if prefix != self._parsed_prefix:
            parts = prefix[:4], prefix[5:7], prefix[8:10], prefix[11:13], prefix[14:16], prefix[17:]
            self._parsed_second = timegm(tuple(map(int, parts)))
            self._parsed_prefix = prefix
        fraction = int(rest[1:10].ljust(9, "0")) if rest else 0
        return self._parsed_second * 1_000_000_000 + fraction
