"""A strict reader of tar streams: ustar, PAX, GNU long names, GNU and PAX sparse files.

Nothing that the archive says is trusted: every number is checked, every length has a limit, and
all problems are InvalidArgument. Names are bytes, as the kernel takes them.
Source: tar(5) of libarchive; POSIX pax; GNU tar manual, "Sparse Formats".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sampan.errors import InvalidArgument
from sampan.storage.archives.tar_fields import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARDLINK,
    MAX_ENTRIES,
    MAX_EXTENSION,
    MAX_SIZE,
    MAX_SPARSE,
    MAX_TOTAL,
    REGULAR,
    SYMLINK,
    Entry,
    apply_records,
    check_names,
    decimal,
    number,
    parse_header,
    records_of,
)

_ZEROS: Final = bytes(BLOCK)
_FILES: Final = frozenset((b"0", b"\0", b"7"))
_WITHOUT_DATA: Final = frozenset((HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))


Literals = Callable[[memoryview], object]


class TarReader:
    """Reads a stream of chunks as a tar archive.

    `literals` gets every byte that is not handed out as content (by `data` or `write_to`), in order
    and before the content that follows it.
    """

    def __init__(self, chunks: Iterable[bytes], literals: Literals | None = None) -> None:
        self._chunks = iter(chunks)
        self._literals = literals
        self._chunk = b""
        self._view = memoryview(b"")
        self._size = 0  # of the chunk
        self._at = 0
        self._mark = 0  # what lies between here and `_at` was not given to `literals` yet
        self._before = 0  # bytes in the chunks before this one
        self._left = 0  # of the current entry's data, not yet read
        self._padding = 0
        self.entries = 0
        self.total = 0

    # --- bytes -----------------------------------------------------------------------------

    def _fill(self) -> bool:
        self._flush(self._size)
        for chunk in self._chunks:
            if chunk:
                self._before += self._size
                self._chunk, self._view, self._size = chunk, memoryview(chunk), len(chunk)
                self._at = self._mark = 0
                return True
        return False

    def _flush(self, end: int) -> None:
        if self._literals and self._mark < end:
            self._literals(self._view[self._mark : end])
        self._mark = end

    def _take(self, size: int) -> bytes:
        """Return exactly `size` bytes; InvalidArgument if the stream ends before."""
        at, end = self._at, self._at + size
        if end <= self._size:
            self._at = end
            return bytes(self._view[at:end])
        pieces = []
        while size:
            if self._at >= self._size and not self._fill():
                raise InvalidArgument("archive/tar: the archive ends too early (unexpected EOF)")
            piece = self._view[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            pieces.append(bytes(piece))
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        while size:
            if self._at >= self._size and not self._fill():
                raise InvalidArgument("archive/tar: the archive ends too early (unexpected EOF)")
            step = min(size, self._size - self._at)
            self._at += step
            size -= step

    def _skip_padding(self, size: int) -> bool:
        """Go to the next member; False if the archive ends without padding, as Go's may."""
        while size:
            if self._at >= self._size and not self._fill():
                return False
            step = min(size, self._size - self._at)
            self._at += step
            size -= step
        return True

    def data(self) -> Iterator[memoryview]:
        """Yield the stored bytes of the current entry, once."""
        while self._left:
            if self._at >= self._size and not self._fill():
                raise InvalidArgument("archive/tar: the archive ends too early (unexpected EOF)")
            self._flush(self._at)
            piece = self._view[self._at : self._at + self._left]
            self._at += len(piece)
            self._left -= len(piece)
            self._mark = self._at
            yield piece

    def write_to(self, fd: int) -> None:
        """Write the stored bytes of the current entry to a file."""
        at = self._at
        end = at + self._left
        if end > self._size:
            for piece in self.data():
                write_all(fd, piece)
        elif self._left:
            self._flush(at)
            write_all(fd, self._view[at:end])
            self._at = self._mark = end
            self._left = 0

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
        if self._left or self._padding:
            self._skip(self._left)
            padding, self._left, self._padding = self._padding, 0, 0
            if not self._skip_padding(padding):
                return None
        records: dict[bytes, bytes] | None = None
        long_name = long_link = None
        for _ in range(16):  # extension headers before one entry
            block = self._header_block()
            if block is None:
                if records or long_name or long_link:
                    raise InvalidArgument("archive/tar: invalid tar header")
                return None
            entry = parse_header(block)
            kind = entry.kind
            if kind == b"x":
                records = records_of(self._extension(entry))
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
        if end <= self._size:
            self._at = end
            block = self._chunk[at:end]
        else:
            if at >= self._size and not self._fill():
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
            apply_records(entry, records)
        if entry.kind in _FILES:
            entry.kind = DIRECTORY if entry.name.endswith(b"/") else REGULAR
        if entry.kind in _WITHOUT_DATA:
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
        check_names(entry)
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
        entry.size = number(block[483:495])
        entry.kind = REGULAR
        entry.sparse = _checked(pieces, entry.size, entry.stored)

    def _pax_sparse(self, entry: Entry, records: dict[bytes, bytes]) -> None:
        version = records.get(b"GNU.sparse.major", b"0"), records.get(b"GNU.sparse.minor", b"1")
        entry.size = decimal(
            records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size") or b""
        )
        entry.name = records.get(b"GNU.sparse.name", entry.name)
        if version == (b"1", b"0"):
            numbers = self._sparse_map()
        else:
            numbers = [decimal(part) for part in records[b"GNU.sparse.map"].split(b",")]
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
                wanted = 1 + 2 * decimal(lines[0])
                if wanted > 2 * MAX_SPARSE:
                    raise InvalidArgument("archive/tar: a sparse file has too many pieces")
        return [decimal(line) for line in lines[1:wanted]]


def _append_piece(pieces: list[tuple[int, int]], offset: bytes, length: bytes) -> None:
    if offset.strip(b"\0 ") or length.strip(b"\0 "):
        pieces.append((number(offset), number(length)))
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


def write_all(fd: int, data: memoryview) -> None:
    """Write all of `data`."""
    while (count := os.write(fd, data)) < len(data):
        data = data[count:]
