"""Layers: an archive applied to a tree, and its digest, in one pass.

A second thread decompresses and a third one hashes, both outside the interpreter's lock, while the
first one makes files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Final

from sampan.errors import InvalidArgument
from sampan.storage.archives.compression import Read, plain_chunks
from sampan.storage.archives.digesting import Digesting
from sampan.storage.archives.recording import Recorder
from sampan.storage.archives.tar_reader import TarReader
from sampan.storage.layers.applying import Applier
from sampan.storage.layers.deferred import Deferred
from sampan.storage.layers.rules import Rules

_AHEAD: Final = 4  # chunks


@dataclass(frozen=True, slots=True)
class Applied:
    """What was in an archive."""

    diff_id: str
    plain_size: int  # bytes of the uncompressed tar
    size: int  # bytes of files
    entries: int


def apply_layer(
    read: Read,
    root: int,
    rules: Rules,
    deferred: Deferred | None = None,
    recorder: Recorder | None = None,
) -> Applied:
    """Write the layer that `read` yields into the directory `root`."""
    with HashedChunks(read) as chunks:
        reader = TarReader(chunks, recorder.literal if recorder else None)
        applier = Applier(root, rules, deferred=deferred, recorder=recorder)
        applier.apply(reader)
        reader.drain()
        if recorder:
            recorder.finish()
        return Applied(chunks.digest(), chunks.size, applier.size, reader.entries)


class HashedChunks:
    """The decompressed content of a stream, produced by one thread and hashed by another."""

    def __init__(self, read: Read) -> None:
        self._source = plain_chunks(read)
        self._digesting = Digesting()
        self._queue: Queue[bytes | BaseException | None] = Queue(_AHEAD)
        self._stopped = threading.Event()
        self._complete = False
        self._thread = threading.Thread(target=self._produce, name="decompress", daemon=True)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._digesting.size

    def __enter__(self) -> HashedChunks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except Empty:
                self._thread.join(0.01)

    def __iter__(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
        self._complete = True

    def digest(self) -> str:
        """Return the digest of everything; only after the last chunk was taken."""
        if not self._complete:
            raise InvalidArgument("the archive was not read to its end")
        self._thread.join()
        return self._digesting.digest()

    def _produce(self) -> None:
        try:
            with self._digesting as digesting:
                for chunk in self._source:
                    digesting.put(chunk)
                    if not self._put(chunk):
                        return
                self._put(None)
        except BaseException as error:  # noqa: BLE001 - the reader of the queue raises it
            self._put(error)

    def _put(self, item: bytes | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except Full:
                continue
        return False
