"""A file that grows where objects do not: parts of it, each an object named by its offset.

`…/data` is `…/data.parts/00000000000000000000`, `…/data.parts/00000000000010485760` and so on.
All that is known of it is in the storage, so any registry on the same bucket can go on with it.
A last part that is too short is written again with what follows, under the same key. Several are
sent at once, so after a kill there may be some behind a gap: they do not count, and are removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from sampan.registry.drivers.driver import Closing
from sampan.registry.drivers.objects.bucket import Bucket, Entry, batches
from sampan.registry.drivers.objects.content import ObjectContent
from sampan.registry.drivers.objects.outbox import Sending

PARTS = ".parts/"
DIGITS = 20  # of an offset in a key
PIECE = 256 << 10


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
    """Appends to a growing file. Once something has failed, it is of no use any more."""

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        offset: int,
        sending: Sending,
        note: Callable[[str, Sequence[Entry]], None],
    ) -> None:
        """`note` is told of what is stored, and its version, once it is."""
        self._note = note
        self._bucket = bucket
        self._prefix = key + PARTS
        self._full = max(bucket.chunk, bucket.least)  # so only the last part may be too short
        listed = list(bucket.list(self._prefix))
        self._parts = chain(listed, self._prefix)
        start = sum(part.size for part in self._parts)
        if start < offset:
            raise OSError(f"{key} has {start} bytes, not {offset}")
        # Somebody was killed who had sent a part before the one in front of it: as soon as a gap is
        # closed, what is behind it would count.
        kept = {part.key for part in self._parts}
        self._remove([entry for entry in listed if entry.key not in kept])
        self._outbox = sending(self._store, start)
        if start > offset:
            self._cut(offset)

    @property
    def version(self) -> str:
        return version_of(self._parts)

    def _remove(self, entries: Sequence[Entry]) -> None:
        for group in batches([entry.key for entry in entries], self._bucket.together):
            self._bucket.delete(group)

    def _cut(self, offset: int) -> None:
        """Forget what is behind an offset."""
        gone: list[Entry] = []
        while self._parts and self._outbox.start > offset:
            gone.append(self._forget_last())
        if self._outbox.start < offset:
            self._load(gone[-1], offset - self._outbox.start)
            self._flush()
            del gone[-1]
        self._remove(gone)

    def _forget_last(self) -> Entry:
        last = self._parts.pop()
        self._outbox.start -= last.size
        return last

    def _load(self, part: Entry, count: int) -> None:
        """Write the beginning of a part that is stored once more."""
        try:
            with ObjectContent(self._bucket, [part]) as content:
                while self._outbox.size < count:
                    left = count - self._outbox.size
                    self._outbox.write(content.read(self._outbox.size, min(PIECE, left)))
        except OSError as error:
            self._outbox.fail(error)
            raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        box = self._outbox
        if not box.size and self._parts and self._parts[-1].size < self._bucket.least:
            short = self._forget_last()
            self._load(short, short.size)
        box.write(data)
        if box.size >= self._full:
            box.send()

    def _store(self, start: int, file: BinaryIO, size: int) -> Entry:
        return self._bucket.put(f"{self._prefix}{start:0{DIGITS}}", file, size)

    def _flush(self) -> None:
        """Send what there is, and wait for all of it."""
        self._outbox.send()
        self._settle()

    def _settle(self) -> None:
        try:
            self._outbox.settle()
        finally:
            self._parts += self._outbox.done
            self._outbox.done = []

    def sync(self) -> None:
        box = self._outbox
        if box.size or not (self._parts or box.start):  # a file without content is there too
            box.send()
        self._settle()
        self._note(self.version, tuple(self._parts))

    def close(self) -> None:
        try:
            self.sync()
        finally:
            self._outbox.close()
