"""A file that grows where objects do not: parts of it, each an object named by its offset.

`…/data` is `…/data.parts/00000000000000000000`, `…/data.parts/00000000000010485760` and so on.
All that is known of it is in the storage, so any registry on the same bucket can go on with it.
A last part that is too short is written again with what follows, under the same key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from sampan.registry.drivers.driver import Closing
from sampan.registry.drivers.objects.bucket import Bucket, Entry, groups
from sampan.registry.drivers.objects.content import ObjectContent

PARTS = ".parts/"
DIGITS = 20  # of an offset in a key


def parts(bucket: Bucket, key: str) -> list[Entry]:
    """Return the parts of a growing file, in order; raise FileNotFoundError if there is none."""
    found = chain(bucket.list(key + PARTS), key + PARTS)
    if not found:
        raise FileNotFoundError(2, "No such object", key)
    return found


def growing(entries: Iterable[Entry], key: str) -> list[Entry]:
    """Return what a growing file consists of: its object, or its parts; nothing if there is none.

    `entries` are in the order of their keys, and may be others too.
    """
    listed = list(entries)
    whole = [entry for entry in listed if entry.key == key]
    return whole or chain((e for e in listed if e.key.startswith(key + PARTS)), key + PARTS)


def chain(entries: Iterable[Entry], prefix: str) -> list[Entry]:
    """Return the parts that follow each other from the beginning on."""
    found: list[Entry] = []
    size = 0
    for entry in entries:
        offset = entry.key.removeprefix(prefix)
        if len(offset) == DIGITS and offset.isdigit() and int(offset) == size:
            found.append(entry)
            size += entry.size
    return found


def version_of(parts: Sequence[Entry]) -> str:
    """Return what these parts, with these contents, are known by."""
    told = hashlib.sha256()
    for part in parts:
        told.update(f"{part.key} {part.size} {part.etag}\n".encode())
    return told.hexdigest()


class PartsWriter(Closing):
    """Appends to a growing file. Holds one part in memory."""

    def __init__(self, bucket: Bucket, key: str, offset: int) -> None:
        self._bucket = bucket
        self._prefix = key + PARTS
        self._buffer = bytearray()
        self._parts = chain(bucket.list(self._prefix), self._prefix)
        self._start = sum(part.size for part in self._parts)  # of the buffer in the file
        if self._start < offset:
            raise OSError(f"{key} has {self._start} bytes, not {offset}")
        if self._start > offset:
            self._cut(offset)

    @property
    def version(self) -> str:
        return version_of(self._parts)

    def _cut(self, offset: int) -> None:
        """Forget what is behind an offset."""
        gone: list[Entry] = []
        while self._parts and self._start > offset:
            last = self._parts.pop()
            self._start -= last.size
            gone.append(last)
        if self._start < offset:
            self._load(gone[-1], offset - self._start)
            self._flush()
            del gone[-1]
        for group in groups([part.key for part in gone], self._bucket.together):
            self._bucket.delete(group)

    def _load(self, part: Entry, count: int) -> None:
        """Take the beginning of a part into the buffer, or nothing if that fails."""
        found = bytearray()
        with ObjectContent(self._bucket, [part]) as content:
            while len(found) < count:
                found += content.read(len(found), count - len(found))
        self._buffer = found

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._buffer and self._parts and self._parts[-1].size < self._bucket.least:
            short = self._parts[-1]
            self._load(short, short.size)
            self._parts.pop()
            self._start -= short.size
        self._buffer += data
        if len(self._buffer) >= self._bucket.chunk:
            self._flush()

    def _flush(self) -> None:
        """Store the buffer. Where this fails it is kept, for the next who tries."""
        key = f"{self._prefix}{self._start:0{DIGITS}}"
        self._parts.append(self._bucket.put(key, self._buffer))
        self._start += len(self._buffer)
        self._buffer = bytearray()

    def sync(self) -> None:
        if self._buffer or not self._parts:  # a file without content is there too
            self._flush()

    def close(self) -> None:
        self.sync()
