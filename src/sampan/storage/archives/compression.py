"""Compressed streams, bounded: gzip, zstd, bzip2, xz or plain, told by their first bytes."""

from __future__ import annotations

import bz2
import fcntl
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import zstandard
from isal import igzip, isal_zlib

from sampan.errors import InvalidArgument

Read = Callable[[int], bytes]

MiB = 1 << 20
CHUNK = 1 * MiB
MEMORY = 128 * MiB  # that a decompressor may ask for (xz and zstd windows)
# Deflate cannot exceed 1032:1; what expands more, after the first 512 MiB, is a bomb.
FREE_OUTPUT = 512 * MiB
MAX_RATIO = 1100

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_FAILURES: tuple[type[Exception], ...] = (
    cast(type[Exception], isal_zlib.error),
    lzma.LZMAError,
    OSError,  # what bz2 raises
    EOFError,
    ValueError,
)


def kind_of(start: bytes) -> str:
    """Return the compression that `start` begins: "gzip", "zstd", "bzip2", "xz" or "" for none."""
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    # zstd streams may begin with a skippable frame. Source: RFC 8878, 3.1.2
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
        return "zstd"
    return ""


def reader_of(fd: int) -> Read:
    """Return a function that reads up to n bytes from `fd`."""
    return lambda size: os.read(fd, size)


def widen(fd: int) -> None:
    """Let a pipe hold a megabyte, so that both ends work longer between waits; else do nothing."""
    with suppress(OSError):  # no pipe, or the user has too many
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, MiB)


def plain_chunks(read: Read) -> Iterator[bytes]:
    """Yield the decompressed content of a stream, in pieces of at most about `CHUNK` bytes.

    Raises InvalidArgument for broken streams and for bombs.
    """
    start = b""
    while len(start) < 6 and (more := read(CHUNK)):
        start += more
    kind = kind_of(start)
    if not kind:
        if start:
            yield start
        while data := read(CHUNK):
            yield data
        return
    counted = _Counted(read, start)
    produced = 0
    for chunk in _decompressed(kind, counted):
        produced += len(chunk)
        if produced > FREE_OUTPUT and produced > counted.taken * MAX_RATIO:
            raise InvalidArgument("the archive expands beyond all measure: refused as a bomb")
        yield chunk


class _Counted:
    """A source that knows how much was taken from it; `start` comes first."""

    def __init__(self, read: Read, start: bytes) -> None:
        self._read, self._start, self.taken = read, start, 0

    def read(self, size: int = CHUNK) -> bytes:
        if self._start:
            data, self._start = self._start[:size], self._start[size:]
        else:
            data = self._read(size)
        self.taken += len(data)
        return data


def _decompressed(kind: str, source: _Counted) -> Iterator[bytes]:
    # The generators below raise library errors; OSError from reading the source is not hidden,
    # because reading goes through `_Counted` before a decompressor sees the bytes.
    if kind == "gzip":
        return _gzip(source)
    if kind == "zstd":
        return _zstd(source)
    if kind == "bzip2":
        return _members(source, bz2.BZ2Decompressor, b"BZh", kind)
    return _members(source, _new_xz, b"\xfd7zXZ\x00", kind)


def _new_xz() -> Any:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)


def _step(decompressor: Any, data: bytes, kind: str) -> bytes:
    try:
        return bytes(decompressor.decompress(data, CHUNK))
    except _FAILURES as error:
        raise InvalidArgument(f"broken {kind} stream: {error}") from error


def _gzip(source: _Counted) -> Iterator[bytes]:
    member = isal_zlib.decompressobj(wbits=31)
    data = source.read(CHUNK // 4)
    while True:
        if chunk := _step(member, data, "gzip"):
            yield chunk
        if member.eof:
            data = member.unused_data or source.read(CHUNK // 4)
            if not _another(data, b"\x1f\x8b", source, "gzip"):
                return
            member = isal_zlib.decompressobj(wbits=31)
            continue
        data = member.unconsumed_tail or source.read(CHUNK // 4)
        if not data and not chunk:
            raise InvalidArgument("broken gzip stream: unexpected end")


def _members(source: _Counted, new: Callable[[], Any], magic: bytes, kind: str) -> Iterator[bytes]:
    member = new()
    data = source.read(CHUNK // 4)
    while True:
        if chunk := _step(member, data, kind):
            yield chunk
        if member.eof:
            data = member.unused_data or source.read(CHUNK // 4)
            if not _another(data, magic, source, kind):
                return
            member = new()
            continue
        data = b"" if not member.needs_input else source.read(CHUNK // 4)
        if member.needs_input and not data:
            raise InvalidArgument(f"broken {kind} stream: unexpected end")


def _another(data: bytes, magic: bytes, source: _Counted, kind: str) -> bool:
    """Tell whether one more member follows; padding with zeros is allowed, garbage is not."""
    if data.startswith(magic):
        return True
    while data:
        if data.strip(b"\0"):
            raise InvalidArgument(f"broken {kind} stream: garbage after the end")
        data = source.read()
    return False


def _zstd(source: _Counted) -> Iterator[bytes]:
    try:
        with zstandard.ZstdDecompressor(max_window_size=MEMORY).stream_reader(
            cast(Any, source), read_size=CHUNK // 4, read_across_frames=True
        ) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except zstandard.ZstdError as error:
        raise InvalidArgument(f"broken zstd stream: {error}") from error


def gzip_writer(file: Any) -> Any:
    """Return a binary file that writes gzip to `file`: fast, and the same bytes every time."""
    return cast(Any, igzip.IGzipFile)(
        filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0
    )
