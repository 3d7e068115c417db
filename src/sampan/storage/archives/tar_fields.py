"""Fields of tar headers: numbers, PAX records, limits. Nothing that they say is trusted.

Source: tar(5) of libarchive; POSIX pax; GNU tar manual, "Sparse Formats".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Final
from zlib import adler32

from sampan.errors import InvalidArgument

BLOCK: Final = 512
MAX_ENTRIES: Final = 4_000_000
MAX_NAME: Final = 4095  # PATH_MAX without its zero byte
MAX_EXTENSION: Final = 1 << 20  # of one PAX header or GNU long name, with its records
MAX_XATTRS: Final = 64  # of one entry
MAX_XATTR_VALUE: Final = 1 << 16  # XATTR_SIZE_MAX
MAX_SIZE: Final = 1 << 43  # 8 TiB, of one file
MAX_SPARSE: Final = 1 << 18  # pieces of one file
MAX_TOTAL: Final = 1 << 44  # of a whole archive

REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
_HEADER: Final = Struct("100s8s8s8s12s12s8s1s100s6s66x8s8s155s12x")
_KNOWN: Final = 4096
_known: dict[bytes, int] = {}
_XATTR: Final = b"SCHILY.xattr."
_UNSIGNED: Final = 2**32 - 2  # largest uid or gid; the last value means "unchanged" to chown(2)


@dataclass(slots=True)
class Entry:
    """One member of an archive."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int  # of the file that results
    mtime: int  # nanoseconds since the epoch
    link: bytes
    major: int
    minor: int
    xattrs: dict[str, bytes] = field(default_factory=dict)
    sparse: list[tuple[int, int]] | None = None  # (offset, length) of the data in the stream
    stored: int = 0  # bytes in the stream


def parse_header(block: bytes) -> Entry:
    """Return the entry of one header block, extensions not applied."""
    (name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix) = (
        _HEADER.unpack(block)
    )
    # The sum of 256 bytes stays below the modulus of Adler's, so that its lower half is exact.
    total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2
    if _signed(checksum) != total - sum(checksum) + 256:
        raise InvalidArgument("archive/tar: invalid tar header")
    name = name.partition(b"\0")[0]
    if prefix[0] and magic == b"ustar\0":
        name = prefix.partition(b"\0")[0] + b"/" + name
    return Entry(
        name,
        kind,
        _often(mode) & 0o7777,
        _often(uid),
        _often(gid),
        number(size),
        _signed(mtime) * 10**9,
        link.partition(b"\0")[0] if link[0] else b"",
        number(major) if kind in (CHARACTER, BLOCK_DEVICE) else 0,
        number(minor) if kind in (CHARACTER, BLOCK_DEVICE) else 0,
    )


def _often(text: bytes) -> int:
    """Return a number of a field that has few values in an archive."""
    value = _known.get(text)
    if value is None:
        if len(_known) >= _KNOWN:
            _known.clear()
        value = _known[text] = number(text)
    return value


def number(text: bytes) -> int:
    """Read an unsigned number: octal digits, or base 256 if the first bit is set."""
    value = _signed(text)
    if value < 0:
        raise InvalidArgument("archive/tar: invalid tar header")
    return value


def _signed(text: bytes) -> int:
    digits = text.rstrip(b"\0 ")
    if digits.isdigit() and b"8" not in digits and b"9" not in digits:
        return int(digits, 8)
    if text[0] & 0x80:
        value = int.from_bytes(text, "big")
        bits = 8 * len(text)
        return value - (1 << bits) if text[0] & 0x40 else value & ~(1 << (bits - 1))
    try:
        digits = text.partition(b"\0")[0].strip(b" ")
        if digits.startswith((b"-", b"+")) or b"_" in digits:
            raise ValueError
        return int(digits, 8) if digits else 0
    except ValueError as error:
        raise InvalidArgument("archive/tar: invalid tar header") from error


def decimal(text: bytes) -> int:
    """Read digits."""
    if not text.isdigit() or len(text) > 20:
        raise InvalidArgument("archive/tar: invalid extended header")
    return int(text)


def _time(text: bytes) -> int:
    """Read seconds with a fraction as nanoseconds."""
    whole, _, fraction = text.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    if fraction and not fraction.isdigit():
        raise InvalidArgument("archive/tar: invalid extended header")
    nanoseconds = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    return sign * (decimal(whole.lstrip(b"-")) * 10**9 + nanoseconds)


def records_of(content: bytes) -> dict[bytes, bytes]:
    """Return the records `LENGTH KEY=VALUE\\n` of a PAX header."""
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 8)
        if space < 0:
            if not content[at:].strip(b"\0"):
                break
            raise InvalidArgument("archive/tar: invalid extended header")
        length = decimal(content[at:space])
        end = at + length
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if end > len(content) or end <= space + 2 or content[end - 1 : end] != b"\n" or not equals:
            raise InvalidArgument("archive/tar: invalid extended header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(value)  # version 0.0 repeats its keys
        else:
            records[key] = value
        at = end
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def apply_records(entry: Entry, records: dict[bytes, bytes]) -> None:
    """Change an entry as its PAX records say."""
    for key, value in records.items():
        if key.startswith(_XATTR):
            if len(entry.xattrs) >= MAX_XATTRS or len(value) > MAX_XATTR_VALUE:
                raise InvalidArgument("archive/tar: too many or too large extended attributes")
            name = key[len(_XATTR) :].decode("utf-8", "surrogateescape")
            entry.xattrs[name] = value
        elif value and (apply := _RECORDS.get(key)):  # an empty value stands for none
            apply(entry, value)


def _set_size(entry: Entry, value: bytes) -> None:
    entry.size = entry.stored = decimal(value)


_RECORDS: Final[dict[bytes, Callable[[Entry, bytes], None]]] = {
    b"path": lambda entry, value: setattr(entry, "name", value),
    b"linkpath": lambda entry, value: setattr(entry, "link", value),
    b"size": _set_size,
    b"uid": lambda entry, value: setattr(entry, "uid", decimal(value)),
    b"gid": lambda entry, value: setattr(entry, "gid", decimal(value)),
    b"mtime": lambda entry, value: setattr(entry, "mtime", _time(value)),
}


def check_names(entry: Entry) -> None:
    """Raise InvalidArgument for names that no file can have."""
    if not entry.name or len(entry.name) > MAX_NAME or b"\0" in entry.name:
        raise InvalidArgument("archive/tar: a member's name is empty, too long or not a name")
    if len(entry.link) > MAX_NAME or b"\0" in entry.link:
        raise InvalidArgument("archive/tar: a link's target is too long or not a path")
    if entry.uid > _UNSIGNED or entry.gid > _UNSIGNED:
        raise InvalidArgument("archive/tar: a member's owner is out of range")
