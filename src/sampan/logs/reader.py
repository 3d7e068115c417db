"""Reading the log of a container while it is written: tail, since, until, follow across rotation.

The reader never blocks: `read` returns what there is, `fileno` becomes readable when it is worth
to read again. So an event loop and a plain loop with select(2) use it alike.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sampan.logs.driver import Codec, LogLine
from sampan.logs.files import codec, log_path
from sampan.logs.watch import FolderWatch

_CHUNK = 256 << 10


@dataclass(slots=True)
class _Segment:
    """One file of the log, open at a position."""

    descriptor: int
    inode: int
    codec: Codec
    position: int
    frozen: bool  # it was decompressed: nothing is added to it
    rest: bytes = b""  # the beginning of an entry that is not complete yet
    skip: int = 0  # entries to leave out: they are before the tail

    def close(self) -> None:
        os.close(self.descriptor)


class LogReader:
    """Yields the entries of one container's log, oldest first."""

    def __init__(
        self,
        folder: Path,
        id: str,
        driver: str,
        *,
        tail: int | None = None,
        since: int = 0,
        until: int = 0,
        streams: Collection[str] = ("stdout", "stderr"),
        follow: bool = False,
    ) -> None:
        """Open the log in `folder`; `since` and `until` are nanoseconds since the epoch, 0 is none.

        A log that has no file yet is empty, and can be followed if the container has run. `tail`
        None means everything. Raises OSError.
        """
        path = log_path(folder, id, driver)
        self._path, self._driver = path, driver
        self._since, self._until, self._streams = since, until, frozenset(streams)
        self._last = 0  # the time of the last entry that was returned
        self._segments: list[_Segment] = []
        self.done = path is None  # nothing more will come: `until` is over, or there are no files
        self._watch: FolderWatch | None = None
        if path is None:
            return
        try:
            if follow:
                self._watch = _watch(path.parent)
            self._open_all(tail)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable after a change; -1 without `follow`."""
        return self._watch.fileno() if self._watch else -1

    def read(self) -> list[LogLine]:
        """Return the next entries, or an empty list: nothing more at present (or `done`)."""
        if self._watch:
            self._watch.clear()  # before reading: what comes later wakes the caller again
        while not self.done:
            lines = self._read_some()
            if lines is None:
                return []
            if lines := self._wanted(lines):
                return lines
        return []

    def close(self) -> None:
        """Close every file; a second call does nothing."""
        for segment in self._segments:
            segment.close()
        self._segments = []
        if self._watch:
            self._watch.close()
        self._watch = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- entries -----------------------------------------------------------------------------

    def _wanted(self, lines: list[LogLine]) -> list[LogLine]:
        if self._since or self._until or len(self._streams) < 2:
            if self._until and lines and lines[-1].time > self._until:
                self.done = True
            lines = [
                line
                for line in lines
                if line.time >= self._since
                and (not self._until or line.time <= self._until)
                and line.stream in self._streams
            ]
        return lines

    def _read_some(self) -> list[LogLine] | None:
        """Return the entries of one chunk; None at the end of what is there."""
        if not self._segments and not self._open_next(0):
            return None
        segment = self._segments[0]
        chunk = os.pread(segment.descriptor, _CHUNK, segment.position)
        if not chunk:
            return [] if self._advance(segment) else None
        if not segment.position:
            start = segment.codec.start(segment.descriptor)
            segment.position = start
            if start:
                return []
        segment.position += len(chunk)
        lines, used = segment.codec.decode(segment.rest + chunk)
        segment.rest = (segment.rest + chunk)[used:]
        if segment.skip:
            skipped = min(segment.skip, len(lines))
            segment.skip -= skipped
            lines = lines[skipped:]
        if lines:
            self._last = max(self._last, lines[-1].time)
        return lines

    # --- files -------------------------------------------------------------------------------

    def _open_all(self, tail: int | None) -> None:
        names = self._names()
        if tail is None:  # the rest is opened when its turn comes
            recent = [name for name in names if _modified(name) >= self._since]
            oldest = self._open(recent[-1]) if recent else None
            self._segments = [oldest] if oldest else []
            return
        for name in names:
            segment = self._open(name)
            if segment is None:
                continue
            size = os.fstat(segment.descriptor).st_size
            segment.position, found = segment.codec.tail(segment.descriptor, size, tail)
            segment.skip = max(found - tail, 0)
            tail -= min(found, tail)
            self._segments.insert(0, segment)
            if tail == 0:
                break

    def _names(self) -> list[Path]:
        """Return the files that exist, newest first."""
        assert self._path is not None
        pattern = re.compile(re.escape(self._path.name) + r"\.(\d+)(\.gz)?")
        numbered: dict[int, Path] = {}
        try:
            names = os.listdir(self._path.parent)
        except FileNotFoundError:
            return []
        for name in sorted(names, reverse=True):  # a plain file wins over its compressed copy
            if found := pattern.fullmatch(name):
                numbered[int(found[1])] = self._path.parent / name
        return [self._path, *(numbered[number] for number in sorted(numbered))]

    def _open(self, path: Path) -> _Segment | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, PermissionError):
            return None  # a file that is being made belongs to us a moment later
        packed = path.suffix == ".gz"
        inode = os.fstat(descriptor).st_ino
        if packed:
            descriptor = _unpack(descriptor)
        return _Segment(descriptor, inode, codec(self._driver), 0, packed)

    def _advance(self, segment: _Segment) -> bool:
        """Go on after the end of a segment; return False if there is nothing to go to."""
        if len(self._segments) > 1:
            self._segments.pop(0).close()
            return True
        if self._truncated(segment):
            return True
        return bool(self._open_next(segment.inode))

    def _truncated(self, segment: _Segment) -> bool:
        """Start again in a file that was emptied (max-file=1); tell whether it was."""
        if segment.frozen or os.fstat(segment.descriptor).st_size >= segment.position:
            return False
        segment.position, segment.rest, segment.skip = 0, b"", 0
        return True

    def _open_next(self, inode: int) -> bool:
        """Replace the segment `inode`, which was rotated away and read, by the one after it."""
        names = self._names()
        inodes = [_inode(name) for name in names]
        if not inodes or inodes[0] in (0, inode):
            return False
        if inode in inodes:
            following = names[inodes.index(inode) - 1]
        elif inode:
            # It was compressed or deleted meanwhile: the next one is the oldest that has news.
            following = self._oldest_with_news(names)
        else:
            following = names[-1]
        segment = self._open(following)
        if segment is None:
            return False
        while self._segments:
            self._segments.pop().close()
        self._segments = [segment]
        return True

    def _oldest_with_news(self, names: list[Path]) -> Path:
        for name in reversed(names):
            segment = self._open(name)
            if segment is None:
                continue
            try:
                start = segment.codec.start(segment.descriptor)
                lines, _ = segment.codec.decode(os.pread(segment.descriptor, _CHUNK, start))
            finally:
                segment.close()
            if lines and lines[0].time > self._last:
                return name
        return names[0]


def _watch(folder: Path) -> FolderWatch | None:
    try:
        return FolderWatch(folder)
    except FileNotFoundError:
        return None  # a container that never ran: there is nothing to wait for


def _inode(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def _modified(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return -1


def _unpack(descriptor: int) -> int:
    """Return a descriptor of the decompressed content, in a file without a name."""
    import zlib  # most logs are never rotated

    memory = os.memfd_create("sampan-log", os.MFD_CLOEXEC)
    try:
        unpacker = zlib.decompressobj(wbits=31)
        while chunk := os.read(descriptor, _CHUNK):
            os.write(memory, unpacker.decompress(chunk))
        os.write(memory, unpacker.flush())
    except zlib.error:
        pass  # a damaged file: what could be read is returned
    finally:
        os.close(descriptor)
    return memory
