"""Files that came in an archive: an index of them, with their contents in one file without a name.

Nothing is unpacked, and no path of a stranger is ever opened: links are followed in the index.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from sampan.errors import InvalidArgument, NotFound
from sampan.storage.archives.tar_fields import DIRECTORY, HARDLINK, REGULAR, SYMLINK, Entry
from sampan.storage.archives.tar_reader import TarReader

_LINKS: Final = 255  # that are followed on the way to one file, as Go's EvalSymlinks
_FLUSH: Final = 1 << 20
_DEPTH: Final = 2048


@dataclass(slots=True)
class File:
    """One file of a tree; a name with slashes is no name."""

    kind: bytes  # as in tar
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0  # nanoseconds since the epoch
    size: int = 0
    at: int = 0  # where its content is stored
    stored: int = 0  # bytes of it; less than `size` only of sparse files
    digest: bytes = b""  # SHA-256 of what is stored
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    sparse: list[tuple[int, int]] | None = None  # (offset, length) of what is stored
    children: dict[bytes, File] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """It may have children."""
        return self.kind == DIRECTORY


def folder(mode: int = 0o755, mtime: int = 0) -> File:
    """Return an empty directory."""
    return File(DIRECTORY, mode, mtime=mtime)


class Spool:
    """The contents of files, one after the other, in a file that belongs to nobody else."""

    def __init__(self, fd: int, size: int = 0) -> None:
        self.fd = fd
        self._size = size
        self._waiting: list[bytes] = []
        self._length = 0
        self.lock = threading.Lock()  # held by the one thread that adds contents

    @property
    def size(self) -> int:
        """Bytes of all contents."""
        return self._size

    def close(self) -> None:
        """Give the space back."""
        os.close(self.fd)

    def add(self, pieces: Iterable[bytes | memoryview]) -> tuple[int, int, bytes]:
        """Store a content; return where it begins, how long it is, and its digest."""
        start, digest = self._size, hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
            self._size += len(piece)
            self._waiting.append(bytes(piece))
            self._length += len(piece)
            if self._length >= _FLUSH:
                self.flush()
        return start, self._size - start, digest.digest()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self.put(self._size - self._length, b"".join(self._waiting))
            self._waiting, self._length = [], 0

    def reserve(self, size: int) -> int:
        """Set space aside for a content that comes in pieces; return where it begins."""
        self.flush()
        self._size += size
        return self._size - size

    def put(self, at: int, data: bytes) -> None:
        """Store a piece of a content in space that was set aside."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, at)
            view, at = view[written:], at + written

    def read(self, file: File, limit: int = 1 << 30) -> bytes:
        """Return a content, whole."""
        if file.stored > limit:
            raise InvalidArgument(f"a file is larger than {limit} bytes")
        return os.pread(self.fd, file.stored, file.at) if file.stored else b""

    def pieces(self, file: File) -> Iterator[bytes]:
        """Yield a content."""
        at, end = file.at, file.at + file.stored
        while at < end and (piece := os.pread(self.fd, min(_FLUSH, end - at), at)):
            yield piece
            at += len(piece)

    def whole(self, file: File, most: int) -> Iterator[bytes]:
        """Yield a content in pieces of at most `most` bytes, zeros for what is not stored."""
        at, done = file.at, 0
        for offset, length in [(0, file.stored)] if file.sparse is None else file.sparse:
            yield from _zeros(offset - done, most)
            end = at + length
            while at < end:
                piece = os.pread(self.fd, min(most, end - at), at)
                if not piece:
                    raise InvalidArgument("the content of a file has become shorter")
                yield piece
                at += len(piece)
            done = offset + length
        yield from _zeros(file.size - done, most)

    def digest(self, file: File) -> bytes:
        """Return the SHA-256 of a content, with the zeros of a sparse one."""
        if file.sparse is None:
            return file.digest
        digest = hashlib.sha256()
        for piece in self.whole(file, _FLUSH):
            digest.update(piece)
        return digest.digest()


def _zeros(count: int, most: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, most))
        count -= most


class Tree:
    """A root directory, and where the contents are."""

    def __init__(self, spool: Spool) -> None:
        self.root = folder()
        self.spool = spool

    # --- coming in -------------------------------------------------------------------------

    def read(self, chunks: Iterable[bytes]) -> None:
        """Add what an uncompressed archive has; the last of a name counts."""
        reader = TarReader(chunks)
        for entry in reader:
            self.add(entry, reader)
        reader.drain()
        self.spool.flush()

    def add(self, entry: Entry, reader: TarReader) -> None:
        """Add one member of an archive."""
        parts = parts_of(entry.name)
        if entry.kind == HARDLINK:
            self.link(entry.name, entry.link)
            return
        file = File(
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime,
            entry.size,
            link=entry.link if entry.kind == SYMLINK else b"",
            device=(entry.major, entry.minor),
            xattrs=entry.xattrs,
            sparse=entry.sparse,
        )
        if entry.kind == REGULAR:
            file.at, file.stored, file.digest = self.spool.add(reader.data())
        self._put(parts, file)

    def write(self, path: bytes, content: bytes, mode: int = 0o644, mtime: int = 0) -> None:
        """Add a file with this content."""
        at, stored, digest = self.spool.add([content])
        self.spool.flush()
        file = File(REGULAR, mode, 0, 0, mtime, stored, at, stored, digest)
        self._put(parts_of(path), file)

    def _put(self, parts: list[bytes], file: File) -> None:
        if not parts:
            if file.is_folder:
                self.root = replace(file, children=self.root.children)
            return
        above = self.root
        for part in parts[:-1]:
            below = above.children.get(part)
            if below is None or not below.is_folder:
                below = above.children[part] = folder()
            above = below
        old = above.children.get(parts[-1])
        if old is not None and old.is_folder and file.is_folder:
            file.children = old.children
        above.children[parts[-1]] = file

    def link(self, path: bytes, target: bytes) -> None:
        """Put a file that is there at another path, too; InvalidArgument if there is none."""
        found = self._plain(parts_of(target))
        if found is None or found.is_folder:
            name = os.fsdecode(path)
            raise InvalidArgument(f"the archive has a link {name!r} to what it does not have")
        self._put(parts_of(path), found)

    def graft(self, path: bytes, file: File) -> None:
        """Put a file, with all below it, at a path."""
        self._put(parts_of(path), file)

    def remove(self, path: bytes) -> None:
        """Take a path away, if it is there; links are not followed."""
        parts = parts_of(path)
        above = self._plain(parts[:-1])
        if parts and above is not None:
            above.children.pop(parts[-1], None)

    # --- looking up ------------------------------------------------------------------------

    def _plain(self, parts: list[bytes]) -> File | None:
        """Return what exactly these names lead to, or None; no link is followed."""
        file: File | None = self.root
        for part in parts:
            file = file.children.get(part) if file is not None else None
        return file

    def find(self, path: bytes) -> File:
        """Return what a path leads to, links followed inside of the tree; NotFound if nothing."""
        return self.locate(path)[1]

    def locate(self, path: bytes) -> tuple[bytes, File]:
        """Return the path without links, and what is there; NotFound if nothing is."""
        waiting = path.split(b"/")[::-1]
        walked: list[tuple[bytes, File]] = [(b"", self.root)]
        links = 0
        while waiting:
            part = waiting.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del walked[max(len(walked) - 1, 1) :]
                continue
            file = walked[-1][1].children.get(part) if walked[-1][1].is_folder else None
            if file is None:
                raise NotFound("file does not exist")
            if file.kind != SYMLINK:
                walked.append((part, file))
                continue
            links += 1
            if links > _LINKS:
                raise NotFound("too many links")
            if file.link.startswith(b"/"):
                walked[1:] = []
            waiting += file.link.split(b"/")[::-1]
        return b"/".join(name for name, _ in walked[1:]), walked[-1][1]


def parts_of(name: bytes) -> list[bytes]:
    """Return the names on the way to a member; InvalidArgument if it leads out of the archive."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidArgument(f"invalid path in archive: {os.fsdecode(name)!r}")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    if len(parts) > _DEPTH:
        raise InvalidArgument("a path in the archive is too deep")
    return parts


def walk(file: File, path: bytes = b"") -> Iterator[tuple[bytes, File]]:
    """Yield everything below a directory with its path, in the order of names, folders first."""
    waiting = [(path, file)]
    while waiting:
        above, one = waiting.pop()
        if one is not file:
            yield above, one
        if one.is_folder:
            start = above + b"/" if above else b""
            waiting += [(start + name, one.children[name]) for name in sorted(one.children)[::-1]]
