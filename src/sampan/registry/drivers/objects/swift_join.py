"""Parts that become the segments of a large object of Swift, and what a kill amid that leaves.

Segments cost room as long as they are there, and only an object leads to them. So as long as there
is no object yet, a note says which one is to come.
"""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

from sampan.registry.drivers.driver import Closing
from sampan.registry.drivers.objects.bucket import Body, Entry

MOST_SEGMENTS = 1000  # of a large object, unless the operator allows more
NOTES = "joining"  # their folder, below that of the segments


class Container(Protocol):
    """What joining needs of a container."""

    segments: str  # the folder of all segments

    def head(self, key: str) -> Entry: ...

    def get(self, key: str, offset: int, size: int) -> Body: ...

    def put(self, key: str, content: io.BytesIO, size: int) -> Entry: ...

    def names(self, prefix: str) -> Iterator[str]: ...

    def list(self, prefix: str) -> Iterator[Entry]: ...

    def delete(self, keys: Sequence[str]) -> None: ...

    def copy(self, part: Entry, target: str) -> None: ...

    def large(self, key: str) -> Sequence[str]: ...

    def put_large(self, key: str, segments: Sequence[dict[str, Any]]) -> None: ...

    def delete_plain(self, key: str) -> None: ...


class SwiftJoin(Closing):
    """A copy of one object, or of the parts of one, each as a segment."""

    def __init__(
        self, bucket: Container, parts: Sequence[Entry], target: str, threads: Executor
    ) -> None:
        self._bucket = bucket
        self._parts = parts
        self._target = target
        self._threads = threads
        self._segments: list[Entry] = []
        self._note = ""
        self._made = False

    def prepare(self) -> None:
        if len(self._parts) == 1 or self._made:
            return
        if len(self._parts) > MOST_SEGMENTS:
            raise OSError(f"swift: {len(self._parts)} parts are too many: set a larger chunksize")
        name = secrets.token_hex(16)
        place = f"{self._bucket.segments}/{name}"
        self._note = f"{self._bucket.segments}/{NOTES}/{name}"
        target = self._target.encode()
        self._bucket.put(self._note, io.BytesIO(target), len(target))
        for number, part in enumerate(self._parts):
            self._segments.append(Entry(f"{place}/{number:08}", part.size, etag=part.etag))
        work = zip(self._parts, self._segments, strict=True)
        for _ in self._threads.map(lambda pair: self._bucket.copy(pair[0], pair[1].key), work):
            pass
        self._made = True

    def publish(self) -> None:
        self.prepare()
        if self._made:
            made = [{"path": s.key, "etag": s.etag, "size_bytes": s.size} for s in self._segments]
            self._bucket.put_large(self._target, made)
            self._segments = []
        elif segments := self._bucket.large(self._parts[0].key):
            self._hand_over(segments)
        else:
            self._bucket.copy(self._parts[0], self._target)

    def _hand_over(self, segments: Sequence[str]) -> None:
        """Give the segments of one object to another, whatever they are by now."""
        there = [{"path": key} for key in segments if self._is_there(key)]
        self._bucket.put_large(self._target, there)
        self._bucket.delete_plain(self._parts[0].key)

    def _is_there(self, key: str) -> bool:
        try:
            return self._bucket.head(key).size > 0
        except FileNotFoundError:
            return False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._bucket.delete([segment.key for segment in self._segments])
            self._segments = []
            if self._note:
                self._bucket.delete([self._note])
                self._note = ""


def sweep(bucket: Container, before: float) -> None:
    """Remove the segments that somebody was joining who was killed before a time."""
    for name in list(bucket.names(f"{bucket.segments}/{NOTES}/")):
        note = f"{bucket.segments}/{NOTES}/{name}"
        with contextlib.suppress(FileNotFoundError):  # its end has come
            found = bucket.head(note)
            if found.modified >= before:
                continue
            body = bucket.get(note, 0, found.size)
            target = body.read(found.size).decode("utf-8", "replace")
            body.close()
            kept = frozenset(bucket.large(target))
            segments = [e.key for e in bucket.list(f"{bucket.segments}/{name}/")]
            bucket.delete([key for key in segments if key not in kept])
            bucket.delete([note])
