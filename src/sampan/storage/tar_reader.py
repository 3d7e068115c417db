"""A strict reader of tar streams: ustar, PAX, GNU long names, GNU and PAX sparse files.

Nothing that the archive says is trusted: every number is checked, every length has a limit, and
all problems are InvalidArgument. Names are bytes, as the kernel takes them.
Source: tar(5) of libarchive; POSIX pax; GNU tar manual, "Sparse Formats".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

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
_HEADER: Final = Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_XATTR: Final = b"SCHILY.xattr."
_ZEROS: Final = bytes(BLOCK)
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


class TarReader:
    """Reads a stream of chunks as a tar archive."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")
        self._at = 0
        self._before = 0  # bytes in the chunks before this one
        self._left = 0  # of the current entry's data, not yet read
        self._padding = 0
        self.entries = 0
        self.total = 0

    # --- bytes -----------------------------------------------------------------------------

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._before += len(self._chunk)
                self._chunk, self._at = memoryview(chunk), 0
                return True
        return False

    def _take(self, size: int) -> bytes:
        """Return exactly `size` bytes; InvalidArgument if the stream ends before."""
        at, end = self._at, self._at + size
        if end <= len(self._chunk):
            self._at = end
            return bytes(self._chunk[at:end])
        pieces = []
        while size:
            if self._at >= len(self._chunk) and not self._fill():
                raise InvalidArgument("archive/tar: the archive ends too early (unexpected EOF)")
            piece = self._chunk[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            pieces.append(bytes(piece))
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        while size:
            if self._at >= len(self._chunk) and not self._fill():
                raise InvalidArgument("archive/tar: the archive ends too early (unexpected EOF)")
            step = min(size, len(self._chunk) - self._at)
            self._at += step
            size -= step

    def data(self) -> Iterator[memoryview]:
        """Yield the stored bytes of the current entry, once."""
        while self._left:
            if self._at >= len(self._chunk) and not self._fill():
                raise InvalidArgument("archive/tar: the archive ends too early (unexpected EOF)")
            piece = self._chunk[self._at : self._at + self._left]
            self._at += len(piece)
            self._left -= len(piece)
            yield piece

    def read_whole(self, limit: int) -> bytes:
        """Return the current entry's data; InvalidArgument if it is longer than `limit`."""
        if self._left > limit:
            raise InvalidArgument(f"archive/tar: a member is larger than {limit} bytes")
        size, self._left = self._left, 0
        return self._take(size)

    def drain(self) -> None:
        """Read what follows the archive, so that a digest over the stream is complete."""
        while self._fill():
            pass

    @property
    def position(self) -> int:
        """Where in the uncompressed stream the current entry's data begins."""
        return self._before + self._at

    # --- entries ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def _next(self) -> Entry | None:
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        records: dict[bytes, bytes] | None = None
        long_name = long_link = None
        for _ in range(16):  # extension headers before one entry
            block = self._header_block()
            if block is None:
                if records or long_name or long_link:
                    raise InvalidArgument("archive/tar: invalid tar header")
                return None
            entry = _parse(block)
            kind = entry.kind
            if kind == b"x":
                records = _records(self._extension(entry))
            elif kind == b"g":
                self._extension(entry)  # global headers are ignored, as Docker does
            elif kind == b"L":
                long_name = self._extension(entry).rstrip(b"\0")
            elif kind == b"K":
                long_link = self._extension(entry).rstrip(b"\0")
            else:
                return self._complete(entry, block, records, long_name, long_link)
        raise InvalidArgument("archive/tar: invalid tar header")

    def _header_block(self) -> bytes | None:
        at, end = self._at, self._at + BLOCK
        if end <= len(self._chunk):
            self._at = end
            block = bytes(self._chunk[at:end])
        else:
            if at >= len(self._chunk) and not self._fill():
                return None  # no end marker: accepted, as Go's and GNU's readers do
            block = self._take(BLOCK)
        return block if block != _ZEROS else None

    def _extension(self, entry: Entry) -> bytes:
        if entry.size > MAX_EXTENSION:
            raise InvalidArgument("archive/tar: an extended header is too large")
        content = self._take(entry.size)
        self._skip(-entry.size % BLOCK)
        return content

    def _complete(
        self,
        entry: Entry,
        block: bytes,
        records: dict[bytes, bytes] | None,
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise InvalidArgument(f"the archive has more than {MAX_ENTRIES} entries")
        if long_name is not None:
            entry.name = long_name
        if long_link is not None:
            entry.link = long_link
        entry.stored = entry.size
        if records:
            _apply_records(entry, records)
        if entry.kind in b"\07" or entry.kind == b"0":
            entry.kind = DIRECTORY if entry.name.endswith(b"/") else REGULAR
        if entry.kind in (HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO):
            entry.size = entry.stored = 0  # POSIX: their size field says nothing about data
        self._left = entry.stored
        self._padding = -entry.stored % BLOCK
        if entry.kind == b"S":
            self._old_sparse(entry, block)
        elif records and (b"GNU.sparse.major" in records or b"GNU.sparse.map" in records):
            self._pax_sparse(entry, records)
        self.total += entry.stored
        if self.total > MAX_TOTAL or entry.size > MAX_SIZE:
            raise InvalidArgument("the archive is larger than any disk: refused")
        _check_names(entry)
        return entry

    # --- sparse files ----------------------------------------------------------------------

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        pieces: list[tuple[int, int]] = []
        for at in range(386, 386 + 4 * 24, 24):
            _append_piece(pieces, block[at : at + 12], block[at + 12 : at + 24])
        more = block[482]
        while more:
            extension = self._take(BLOCK)
            for at in range(0, 21 * 24, 24):
                _append_piece(pieces, extension[at : at + 12], extension[at + 12 : at + 24])
            more = extension[504]
        entry.size = _number(block[483:495])
        entry.kind = REGULAR
        entry.sparse = _checked(pieces, entry.size, entry.stored)

    def _pax_sparse(self, entry: Entry, records: dict[bytes, bytes]) -> None:
        version = records.get(b"GNU.sparse.major", b"0"), records.get(b"GNU.sparse.minor", b"1")
        entry.size = _decimal(
            records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size") or b""
        )
        entry.name = records.get(b"GNU.sparse.name", entry.name)
        if version == (b"1", b"0"):
            numbers = self._sparse_map()
        else:
            numbers = [_decimal(part) for part in records[b"GNU.sparse.map"].split(b",")]
        if entry.kind != REGULAR or len(numbers) % 2:
            raise InvalidArgument("archive/tar: invalid sparse file")
        pieces = list(zip(numbers[::2], numbers[1::2], strict=True))
        entry.sparse = _checked(pieces, entry.size, self._left)

    def _sparse_map(self) -> list[int]:
        """Read the map at the beginning of the data: decimal lines, padded to whole blocks."""
        text = b""
        lines: list[bytes] = []
        wanted = 1
        while len(lines) < wanted:
            if self._left < BLOCK or len(text) > MAX_EXTENSION:
                raise InvalidArgument("archive/tar: invalid sparse file")
            text += self._take(BLOCK)
            self._left -= BLOCK
            *complete, text = text.split(b"\n")
            lines += complete
            if wanted == 1 and lines:
                wanted = 1 + 2 * _decimal(lines[0])
                if wanted > 2 * MAX_SPARSE:
                    raise InvalidArgument("archive/tar: a sparse file has too many pieces")
        return [_decimal(line) for line in lines[1:wanted]]


def _append_piece(pieces: list[tuple[int, int]], offset: bytes, length: bytes) -> None:
    if offset.strip(b"\0 ") or length.strip(b"\0 "):
        pieces.append((_number(offset), _number(length)))
    if len(pieces) > MAX_SPARSE:
        raise InvalidArgument("archive/tar: a sparse file has too many pieces")


def _checked(pieces: list[tuple[int, int]], size: int, stored: int) -> list[tuple[int, int]]:
    end = total = 0
    for offset, length in pieces:
        if offset < end or offset + length > size:
            raise InvalidArgument("archive/tar: invalid sparse file")
        end, total = offset + length, total + length
    if total != stored:
        raise InvalidArgument("archive/tar: invalid sparse file")
    return pieces


# --- fields --------------------------------------------------------------------------------


def _parse(block: bytes) -> Entry:
    """Return the entry of one header block, extensions not applied."""
    (name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix) = (
        _HEADER.unpack(block)
    )
    stated = _number(checksum)
    total = sum(block) - sum(checksum) + 256
    if stated != total:
        raise InvalidArgument("archive/tar: invalid tar header")
    name = name.partition(b"\0")[0]
    if magic[:6] == b"ustar\0" and prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    return Entry(
        name,
        kind,
        _number(mode) & 0o7777,
        _number(uid),
        _number(gid),
        _number(size),
        _signed(mtime) * 10**9,
        link.partition(b"\0")[0],
        _number(major) if kind in (CHARACTER, BLOCK_DEVICE) else 0,
        _number(minor) if kind in (CHARACTER, BLOCK_DEVICE) else 0,
    )


def _number(text: bytes) -> int:
    """Read an unsigned number: octal digits, or base 256 if the first bit is set."""
    value = _signed(text)
    if value < 0:
        raise InvalidArgument("archive/tar: invalid tar header")
    return value


def _signed(text: bytes) -> int:
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


def _decimal(text: bytes) -> int:
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
    return sign * (_decimal(whole.lstrip(b"-")) * 10**9 + nanoseconds)


def _records(content: bytes) -> dict[bytes, bytes]:
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
        length = _decimal(content[at:space])
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


def _apply_records(entry: Entry, records: dict[bytes, bytes]) -> None:
    for key, value in records.items():
        if key.startswith(_XATTR):
            if len(entry.xattrs) >= MAX_XATTRS or len(value) > MAX_XATTR_VALUE:
                raise InvalidArgument("archive/tar: too many or too large extended attributes")
            name = key[len(_XATTR) :].decode("utf-8", "surrogateescape")
            entry.xattrs[name] = value
        elif value and (apply := _RECORDS.get(key)):  # an empty value stands for none
            apply(entry, value)


def _set_size(entry: Entry, value: bytes) -> None:
    entry.size = entry.stored = _decimal(value)


_RECORDS: Final[dict[bytes, Callable[[Entry, bytes], None]]] = {
    b"path": lambda entry, value: setattr(entry, "name", value),
    b"linkpath": lambda entry, value: setattr(entry, "link", value),
    b"size": _set_size,
    b"uid": lambda entry, value: setattr(entry, "uid", _decimal(value)),
    b"gid": lambda entry, value: setattr(entry, "gid", _decimal(value)),
    b"mtime": lambda entry, value: setattr(entry, "mtime", _time(value)),
}


def _check_names(entry: Entry) -> None:
    if not entry.name or len(entry.name) > MAX_NAME or b"\0" in entry.name:
        raise InvalidArgument("archive/tar: a member's name is empty, too long or not a name")
    if len(entry.link) > MAX_NAME or b"\0" in entry.link:
        raise InvalidArgument("archive/tar: a link's target is too long or not a path")
    if entry.uid > _UNSIGNED or entry.gid > _UNSIGNED:
        raise InvalidArgument("archive/tar: a member's owner is out of range")
