"""The driver of all object storages: a registry's files as objects of a bucket.

There are no folders: a folder is there as long as a key begins with it. What was answered is
stored, so nothing has to be settled.
"""

from __future__ import annotations

import builtins
import io
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import TypeVar

from sampan.registry.drivers.driver import (
    Change,
    Closing,
    File,
    Move,
    Writer,
    Written,
    read_or_none,
    size_or_none,
)
from sampan.registry.drivers.objects.bucket import Bucket, Entry, batches
from sampan.registry.drivers.objects.content import ObjectContent
from sampan.registry.drivers.objects.outbox import SENDERS, Outbox, Send
from sampan.registry.drivers.objects.parts import PartsWriter, growing, parts, version_of
from sampan.registry.drivers.objects.survey import Listing

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
Entries = Sequence[Entry]
SMALL = 1 << 20  # bytes
REMEMBERED = 256  # versions that were written a moment ago
THREADS = 16  # requests at once for one thing that takes many


class ObjectDriver:
    """Keeps a registry in a bucket, below `root`."""

    moves_cheaply = False

    def __init__(self, bucket: Bucket, root: str = "") -> None:
        self.bucket = bucket
        self._root = f"{root.strip('/')}/" if root.strip("/") else ""
        self._threads = ThreadPoolExecutor(THREADS, "objects")
        self._senders = ThreadPoolExecutor(SENDERS, "parts")
        self._written: dict[str, Entries] = {}  # by version
        self._written_lock = threading.Lock()
        self.folder: str | None = None  # on this machine, for what waits to be sent

    def key(self, path: str) -> str:
        """Return the whole key of a file."""
        return self._root + path

    def read(self, path: str) -> bytes:
        with self.open(path) as content:
            found = bytearray()
            while len(found) < content.size:
                found += content.read(len(found), content.size - len(found))
        return bytes(found)

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        yield from self._side_by_side(partial(read_or_none, self), paths)

    def _side_by_side(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Yield the results in order; few wait for whoever takes them."""
        if len(items) == 1:
            yield work(items[0])
            return
        left = iter(items)
        while batch := list(islice(left, 2 * THREADS)):
            yield from self._threads.map(work, batch)

    def survey(self, path: str) -> Listing:
        return Listing(self, self.bucket.list(f"{self.key(path)}/"), self._root)

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        for path, content in files:
            self.bucket.put(self.key(path), io.BytesIO(content), len(content))

    def stage(self, files: Sequence[File]) -> Written:
        return Written(self, files)

    def _stored(self, path: str) -> Entries:
        """Return the object of a file, or its parts if it is growing."""
        key = self.key(path)
        try:
            return [self.bucket.head(key)]
        except FileNotFoundError:
            return parts(self.bucket, key)

    def size(self, path: str) -> int:
        return sum(entry.size for entry in self._stored(path))

    def grown(self, path: str, note: str) -> int:
        key = self.key(path)
        entries = builtins.list(self.bucket.list(f"{key.rpartition('/')[0]}/"))
        found = growing(entries, key)
        if not found and self.key(note) not in [entry.key for entry in entries]:
            raise FileNotFoundError(2, "No such object", key)
        return sum(part.size for part in found)

    def sizes(self, paths: Sequence[str]) -> builtins.list[int | None]:
        return list(self._side_by_side(partial(size_or_none, self), paths))

    def modified(self, path: str) -> float:
        return max(entry.modified for entry in self._stored(path))

    def list(self, path: str) -> builtins.list[str]:
        return sorted(self.bucket.names(f"{self.key(path)}/"))

    def open(self, path: str) -> ObjectContent:
        return ObjectContent(self.bucket, self._stored(path))

    def url(self, path: str, method: str) -> str:
        return self.bucket.url(self.key(path), method)

    def append(self, path: str, offset: int) -> Writer:
        key, sending = self.key(path), self._sending
        grows = self.bucket.append(key, offset, sending)
        return grows or PartsWriter(self.bucket, key, offset, sending, self._note)

    def _note(self, version: str, stored: Entries) -> None:
        with self._written_lock:
            self._written[version] = stored
            while len(self._written) > REMEMBERED:
                del self._written[next(iter(self._written))]

    def _sending(self, send: Send[T], offset: int, /) -> Outbox[T]:
        return Outbox(send, self._senders, self.folder, offset)

    def move(self, source: str, target: str, version: str = "") -> ObjectMove:
        return ObjectMove(self, source, target, version)

    def source(self, path: str, version: str) -> Entries:
        """Return what a file consists of, if it still has the version that is expected.

        A busy Swift lists seconds later what it has stored. Where a list has less than was written
        here, and nothing else, we know better; whoever joins the parts demands their tags.
        """
        key = self.key(path)
        found = growing(self.bucket.list(key), key)
        with self._written_lock:
            written = self._written.pop(version, ())
        if {(e.key, e.etag) for e in found} < {(e.key, e.etag) for e in written}:
            return written
        if not found:
            raise FileNotFoundError(2, "No such object", key)
        if version and version not in (version_of(found), found[0].etag):
            raise OSError(f"{path} was changed by others")
        return found

    def join(self, source: Sequence[Entry], target: str) -> Move:
        """Return the copying of objects into a file."""
        return self.bucket.join(source, self.key(target), self._threads)

    def settle(self, paths: Sequence[str]) -> None:
        """What was answered is stored."""

    def delete(self, *groups: Sequence[str], within: Change) -> None:
        found = [list(self._side_by_side(self._below, group)) for group in groups]
        for keys in filter(None, found):
            within.confirm()  # for each: what is removed in a bucket does not come back
            self.remove(list(chain(*keys)))

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, each of them if that can be; raise the first failure."""
        failures = self._side_by_side(self._removed, list(batches(keys, self.bucket.together)))
        if found := [error for error in failures if error]:
            raise found[0]

    def _removed(self, keys: Sequence[str]) -> OSError | None:
        try:
            self.bucket.delete(keys)
        except OSError as error:
            return error
        return None

    def _below(self, path: str) -> Sequence[str]:
        """Return the keys of a folder, or else of a file, which may be gone."""
        key = self.key(path)
        return [entry.key for entry in self.bucket.list(f"{key}/")] or [key]

    def sweep(self, before: float) -> None:
        self.bucket.sweep(before)

    def check(self) -> None:
        try:
            self.bucket.check()
        except FileNotFoundError as error:
            raise OSError("it does not exist") from error

    def close(self) -> None:
        self._threads.shutdown()
        self._senders.shutdown()
        self.bucket.close()


class ObjectMove(Closing):
    """Copies a file inside the storage, and then removes the one that was copied."""

    def __init__(self, driver: ObjectDriver, source: str, target: str, version: str) -> None:
        self._driver = driver
        self._target = target
        self._source = driver.source(source, version)
        self._join = driver.join(self._source, target)
        self._done = False

    def prepare(self) -> None:
        # What is there already is kept as a rule: whoever publishes nevertheless has to wait.
        # What is small is copied sooner than looked for.
        size = sum(part.size for part in self._source)
        if size > SMALL and size_or_none(self._driver, self._target) != size:
            self._join.prepare()

    def publish(self) -> None:
        self._join.publish()
        self._done = True

    def close(self) -> None:
        self._join.close()
        if self._done:
            self._done = False
            try:
                self._driver.remove([part.key for part in self._source])
            except OSError as error:  # it lasts until the upload's folder is removed, or purged
                log.warning("what was moved to %s is left: %s", self._target, error)
