"""The file `recipe` of a layer: all bytes of its tar that are not the contents of its files.

With the files it gives the archive again, byte for byte, so that the archive need not be kept. The
format is a zstd stream of records: what kind, how many bytes of tar to write first, the path of the
file whose content follows, how many bytes of it; then those bytes, the path, and for sparse
files the pieces that are stored. A recipe is read as if it were hostile: see `repacking.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, error
from types import TracebackType
from typing import Final, Self

import zstandard

from sampan.errors import InvalidArgument
from sampan.storage.archives.tar_fields import MAX_NAME, MAX_SPARSE

NAME: Final = "recipe"
MAGIC: Final = b"sampan-recipe-1\n"
PLAIN, SPARSE, END = range(3)
MAX_LITERAL: Final = 1 << 20
_RECORD: Final = Struct("<BIHQ")
_COUNT: Final = Struct("<I")
_LEVEL: Final = 1  # headers come out smaller than with 2 or 3, and sooner
_WINDOW: Final = 8 << 20
_BUFFER: Final = 1 << 20

Pieces = list[tuple[int, int]]  # (offset, length) of what is stored of a sparse file


@dataclass(slots=True)
class Record:
    """Bytes of the tar, then the content of a file; without a path there is no content."""

    literal: bytes
    path: bytes
    size: int
    pieces: Pieces | None = None


class RecipeWriter:
    """Writes a recipe; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as undo:
            file = undo.enter_context(path.open("xb"))
            compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
            self._out = undo.enter_context(compressor.stream_writer(file, closefd=False))
            self._undo = undo.pop_all()
        self._parts: list[bytes] = [MAGIC]
        self._first = len(self._parts)  # of the parts that no record has yet
        self._length = 0  # of the literals among them
        self._size = 0  # of all parts

    def literal(self, data: memoryview | bytes) -> None:
        """Add bytes that are written as they are."""
        while len(data) > MAX_LITERAL - self._length:
            part = data[: MAX_LITERAL - self._length]
            self._add(bytes(part))
            self.content(b"", 0)
            data = data[len(part) :]
        self._add(bytes(data))

    def _add(self, literal: bytes) -> None:
        if not self._length:
            self._parts.append(b"")  # the record that they belong to goes here
        self._parts.append(literal)
        self._length += len(literal)

    def content(self, path: bytes, size: int, pieces: Pieces | None = None) -> None:
        """Add the content of a file."""
        length, parts = self._length, self._parts
        head = _RECORD.pack(PLAIN if pieces is None else SPARSE, length, len(path), size)
        if length:
            parts[self._first] = head
        else:
            parts.append(head)
        parts.append(path)
        if pieces is not None:
            flat = [number for piece in pieces for number in piece]
            parts.append(_COUNT.pack(len(pieces)) + Struct(f"<{len(flat)}Q").pack(*flat))
        self._size += length + len(path)
        self._length = 0
        self._first = len(parts)
        if self._size >= _BUFFER:
            self._flush()

    def finish(self) -> None:
        """Write the end."""
        if self._length:
            self.content(b"", 0)
        self._parts.append(_RECORD.pack(END, 0, 0, 0))
        self._flush()

    def _flush(self) -> None:
        self._out.write(b"".join(self._parts))
        self._parts.clear()
        self._first = self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._undo.__exit__(kind, failure, traceback)


def read_recipe(path: Path) -> Iterator[Record]:
    """Yield the records of a recipe; InvalidArgument if it is none."""
    try:
        with path.open("rb") as file:
            decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
            with decompressor.stream_reader(file, read_size=1 << 18) as stream:
                yield from _records(_Stream(stream))
    except (zstandard.ZstdError, error) as failure:
        raise InvalidArgument(f"broken recipe of a layer: {failure}") from failure


def _records(stream: _Stream) -> Iterator[Record]:
    if stream.take(len(MAGIC)) != MAGIC:
        raise InvalidArgument("broken recipe of a layer: unknown format")
    while True:
        kind, length, of_path, size = _RECORD.unpack(stream.take(_RECORD.size))
        if kind == END:
            if stream.take(1, short=True):
                raise InvalidArgument("broken recipe of a layer: garbage after its end")
            return
        if kind > END or length > MAX_LITERAL or of_path > MAX_NAME:
            raise InvalidArgument("broken recipe of a layer: impossible record")
        literal, path = stream.take(length), stream.take(of_path)
        pieces = _pieces(stream, size) if kind == SPARSE else None
        if b"\0" in path or bool(size) > bool(path):
            raise InvalidArgument("broken recipe of a layer: impossible path")
        yield Record(literal, path, size, pieces)


def _pieces(stream: _Stream, size: int) -> Pieces:
    (count,) = _COUNT.unpack(stream.take(_COUNT.size))
    if count > MAX_SPARSE:
        raise InvalidArgument("broken recipe of a layer: too many pieces")
    flat = Struct(f"<{2 * count}Q").unpack(stream.take(16 * count))
    pieces = list(zip(flat[::2], flat[1::2], strict=True))
    if sum(length for _, length in pieces) != size or any(at >= 1 << 63 for at in flat):
        raise InvalidArgument("broken recipe of a layer: impossible pieces")
    return pieces


class _Stream:
    """Exact reads from a decompressor."""

    def __init__(self, source: zstandard.ZstdDecompressionReader) -> None:
        self._source, self._buffer, self._at = source, b"", 0

    def take(self, size: int, *, short: bool = False) -> bytes:
        at, end = self._at, self._at + size
        while end > len(self._buffer):
            more = self._source.read(max(_BUFFER, size))
            if not more:
                if short:
                    return b""
                raise InvalidArgument("broken recipe of a layer: unexpected end")
            self._buffer, end, at = self._buffer[at:] + more, end - at, 0
        self._at = end
        return self._buffer[at:end]
