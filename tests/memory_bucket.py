"""A bucket in memory, which can fail: for tests of what all object storages share."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import BinaryIO, Self

from sampan.registry.drivers.objects.bucket import Body, Entry
from sampan.registry.drivers.objects.outbox import Sending


class MemoryBucket:
    """Keeps objects in a dictionary. `fails` counts down the calls that fail from now on."""

    name = "memory://bucket"
    together = 2

    def __init__(self, chunk: int = 10, least: int = 4) -> None:
        self.chunk, self.least = chunk, least
        self.objects: dict[str, bytes] = {}
        self.fails = 0
        self.reads = 0
        self.unlisted: set[str] = set()  # what is stored, and no list shows yet

    def _work(self) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("the bucket is away")

    def _entry(self, key: str) -> Entry:
        content = self.objects[key]
        return Entry(key, len(content), 1.0, hashlib.sha256(content).hexdigest())

    def head(self, key: str) -> Entry:
        self._work()
        if key not in self.objects:
            raise FileNotFoundError(2, "No such object", key)
        return self._entry(key)

    def get(self, key: str, offset: int, size: int) -> Body:
        self._work()
        self.reads += 1
        return MemoryBody(self, self.objects[key][offset : offset + size])

    def put(self, key: str, content: BinaryIO, size: int) -> Entry:
        self._work()
        found = content.read()
        assert len(found) == size
        return self.keep(key, found)

    def keep(self, key: str, content: bytes) -> Entry:
        """Have an object, whatever fails."""
        self.objects[key] = content
        return self._entry(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        self._work()
        yield from [self._entry(key) for key in self._listed(prefix)]

    def _listed(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects.keys() - self.unlisted if key.startswith(prefix))

    def names(self, prefix: str) -> Iterator[str]:
        found = {entry.key[len(prefix) :].partition("/")[0] for entry in self.list(prefix)}
        yield from sorted(found)

    def delete(self, keys: Sequence[str]) -> None:
        self._work()
        assert len(keys) <= self.together
        for key in keys:
            self.objects.pop(key, None)

    def join(self, parts: Sequence[Entry], target: str, threads: Executor) -> MemoryJoin:
        assert all(part.size >= self.least for part in parts[:-1])
        return MemoryJoin(self, parts, target)

    def append(self, key: str, offset: int, sending: Sending) -> None:
        return None

    def url(self, key: str, method: str) -> str:
        return f"memory://bucket/{key}"

    def sweep(self, before: float) -> None:
        """Nothing is left."""

    def check(self) -> None:
        self._work()

    def close(self) -> None:
        """Nothing is held."""


class MemoryBody(io.BytesIO):
    """A content on its way, which breaks where the bucket does."""

    def __init__(self, bucket: MemoryBucket, content: bytes) -> None:
        super().__init__(content)
        self._bucket = bucket

    def read(self, count: int | None = -1, /) -> bytes:
        self._bucket._work()
        return super().read(count)


class MemoryJoin:
    def __init__(self, bucket: MemoryBucket, parts: Sequence[Entry], target: str) -> None:
        self._bucket, self._parts, self._target = bucket, parts, target

    def prepare(self) -> None:
        self._bucket._work()

    def publish(self) -> None:
        content = b""
        for part in self._parts:
            if self._bucket.head(part.key) != part:
                raise OSError("a part was changed by others")
            content += self._bucket.objects[part.key]
        self._bucket.put(self._target, io.BytesIO(content), len(content))

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
