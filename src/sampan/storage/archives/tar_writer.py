"""Writing tar archives: ustar with PAX records where a field does not fit, the same every time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

from sampan.errors import InvalidArgument
from sampan.storage.archives.tar_fields import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    MAX_NAME,
    REGULAR,
    Entry,
)

_FLUSH: Final = 1 << 20
_OCTAL_ID: Final = 0o7777777
_OCTAL_SIZE: Final = 0o77777777777


class TarWriter:
    """Writes members to `write`, a function that takes all the bytes that it is given."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._buffer = bytearray()

    def add(self, entry: Entry, content: bytes = b"") -> None:
        """Write a member whose data is `content`."""
        self.header(entry)
        self._buffer += content
        self._pad(len(content))

    def add_file(self, entry: Entry, fd: int) -> None:
        """Write a regular file; zeros take the place of what it loses meanwhile."""
        for _ in self.adding_file(entry, fd):
            pass

    def adding_file(self, entry: Entry, fd: int) -> Iterator[None]:
        """Write a regular file piece by piece; see `add_file`."""
        self.header(entry)
        left = entry.size
        while left:
            data = os.read(fd, min(left, _FLUSH))
            if not data:
                data = bytes(min(left, _FLUSH))
            self._buffer += data
            left -= len(data)
            if len(self._buffer) >= _FLUSH:
                self.flush()
                yield
        self._pad(entry.size)

    def header(self, entry: Entry) -> None:
        """Write the header of a member; `entry.size` bytes and padding must follow."""
        if len(entry.name) > MAX_NAME:
            raise InvalidArgument("a path is too long for an archive")
        records = _records(entry)
        if records:
            content = b"".join(records)
            extension = Entry(b"PaxHeaders.0/entry", b"x", 0o644, 0, 0, len(content), 0, b"", 0, 0)
            self._buffer += _block(extension) + content
            self._pad(len(content))
        self._buffer += _block(entry)
        if len(self._buffer) >= _FLUSH:
            self.flush()

    def raw(self, data: bytes) -> None:
        """Write a part of the content of the last member; padding must follow the last one."""
        self._buffer += data
        if len(self._buffer) >= _FLUSH:
            self.flush()

    def pad(self, size: int) -> None:
        """Fill the last block of `size` bytes that were written past this object."""
        self._pad(size)

    def close(self) -> None:
        """Write the end of the archive."""
        self._buffer += bytes(2 * BLOCK)
        self.flush()

    def flush(self) -> None:
        """Hand on what was collected."""
        if self._buffer:
            self._write(bytes(self._buffer))
            self._buffer.clear()

    def _pad(self, size: int) -> None:
        self._buffer += bytes(-size % BLOCK)


def _records(entry: Entry) -> list[bytes]:
    records = []
    if len(entry.name) > 100 or not entry.name.isascii():
        records.append(_record(b"path", entry.name))
    if len(entry.link) > 100 or not entry.link.isascii():
        records.append(_record(b"linkpath", entry.link))
    if entry.size > _OCTAL_SIZE:
        records.append(_record(b"size", b"%d" % entry.size))
    if entry.uid > _OCTAL_ID:
        records.append(_record(b"uid", b"%d" % entry.uid))
    if entry.gid > _OCTAL_ID:
        records.append(_record(b"gid", b"%d" % entry.gid))
    if not 0 <= entry.mtime // 10**9 <= _OCTAL_SIZE:
        records.append(_record(b"mtime", b"%d" % (entry.mtime // 10**9)))
    for name, value in sorted(entry.xattrs.items()):
        records.append(_record(b"SCHILY.xattr." + os.fsencode(name), value))
    return records


def _record(key: bytes, value: bytes) -> bytes:
    """Return one PAX record; its length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(entry: Entry) -> bytes:
    device = entry.kind in (CHARACTER, BLOCK_DEVICE)
    head = b"".join(
        (
            _ascii(entry.name, 100),
            b"%07o\0" % (entry.mode & 0o7777),
            b"%07o\0" % (entry.uid if entry.uid <= _OCTAL_ID else 0),
            b"%07o\0" % (entry.gid if entry.gid <= _OCTAL_ID else 0),
            b"%011o\0" % (entry.size if entry.size <= _OCTAL_SIZE else 0),
            b"%011o\0" % min(max(entry.mtime // 10**9, 0), _OCTAL_SIZE),
            b"        ",
            entry.kind,
            _ascii(entry.link, 100),
            b"ustar\x0000",
            bytes(64),
            b"%07o\0%07o\0" % (entry.major, entry.minor) if device else b"0000000\x000000000\0",
            bytes(167),
        )
    )
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def _ascii(text: bytes, size: int) -> bytes:
    """Return a field; what does not fit is in a PAX record, and here cut short."""
    return bytes(byte if byte < 128 else 0x5F for byte in text[:size]).ljust(size, b"\0")


def file_entry(name: str, size: int, mtime: int = 0, mode: int = 0o644) -> Entry:
    """Return a regular file owned by root."""
    return Entry(os.fsencode(name), REGULAR, mode, 0, 0, size, mtime, b"", 0, 0)


def folder_entry(name: str, mtime: int = 0) -> Entry:
    """Return a directory owned by root."""
    return Entry(os.fsencode(name.rstrip("/") + "/"), DIRECTORY, 0o755, 0, 0, 0, mtime, b"", 0, 0)
