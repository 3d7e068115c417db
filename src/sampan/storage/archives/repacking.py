"""Writing a layer again as the tar that it came from: its recipe and the contents of its files.

Neither is trusted. Paths are resolved inside the layer's own tree, only regular files are read,
nothing is longer than the tar was, and the digest decides in the end.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Final

from sampan.errors import InvalidArgument, NotFound
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.storage.archives.digesting import Digesting
from sampan.storage.archives.recipe import NAME, Record, read_recipe
from sampan.storage.archives.recording import stored_content
from sampan.storage.archives.tar_reader import TarReader
from sampan.storage.layers.checking import TreeCheck
from sampan.storage.snapshots import Snapshot

_BUFFER: Final = 1 << 20
_AHEAD: Final = 4  # buffers
_FOLDERS: Final = 64
_FILES_AHEAD: Final = 64
_PROBLEMS: Final = 100
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Write = Callable[[bytes], object]


@dataclass(slots=True)
class Repacker:
    """One layer: `folder` is the snapshot's, `tree` the layer's root directory."""

    snapshot: Snapshot
    folder: Path
    tree: int
    _parents: dict[bytes, int] = field(default_factory=dict)
    _written: int = 0

    def pack(self, write: Write) -> None:
        """Give the tar to `write`; see Mounter.pack_layer."""
        with Hashing(write) as out:
            for data in buffered(self._contents(self._records())):
                out.put(data)
        self._compare(out.digest)

    def verify(self, *, alone: bool) -> list[str]:
        """Return what is wrong with the layer; `alone`: no parent's files are in its tree.

        See Mounter.verify.
        """
        check = TreeCheck(self.tree, alone=alone)
        try:
            with Digesting() as digesting:
                reader = TarReader(self._digested(digesting))
                for entry in reader:
                    check.note(entry)
                reader.drain()
                self._compare(digesting.digest())
            problem = ""
        except (InvalidArgument, NotFound) as error:
            problem = str(error)
        with suppress(InvalidArgument, NotFound):
            found = self._missing() or ([problem] if problem else [])
            differences = [
                self._named(difference) for difference in check.problems(complete=not problem)
            ]
            return [*found, *(each for each in differences if each not in found)][:_PROBLEMS]
        return [problem]

    def _digested(self, digesting: Digesting) -> Iterator[bytes]:
        for data in buffered(self._contents(self._records())):
            digesting.put(data)
            yield data

    def _compare(self, digest: str) -> None:
        if digest != self.snapshot.diff_id:
            raise InvalidArgument(
                f"layer {self.snapshot.key} has the digest {digest},"
                f" expected {self.snapshot.diff_id}"
            )

    def _records(self) -> Iterator[Record]:
        try:
            yield from read_recipe(self.folder / NAME)
        except FileNotFoundError as error:
            raise NotFound(f"layer {self.snapshot.key} has no recipe") from error

    def _contents(self, records: Iterable[Record]) -> Iterator[bytes]:
        """Yield the tar; the next files are open already, and the kernel reads them ahead."""
        waiting: deque[tuple[Record, int]] = deque()
        try:
            for record in records:
                self._count(len(record.literal) + record.size)
                waiting.append((record, self._open_ahead(record) if record.size else -1))
                if len(waiting) > _FILES_AHEAD:
                    yield from self._content(*waiting.popleft())
            while waiting:
                yield from self._content(*waiting.popleft())
        finally:
            for _, fd in waiting:
                if fd >= 0:
                    os.close(fd)
            self._forget()

    def _open_ahead(self, record: Record) -> int:
        fd = self._open(record.path)
        if record.pieces is None:
            os.posix_fadvise(fd, 0, record.size, os.POSIX_FADV_WILLNEED)
        return fd

    def _content(self, record: Record, fd: int) -> Iterator[bytes]:
        try:
            yield record.literal
            if fd < 0:
                return
            if record.pieces is None and record.size < _BUFFER:
                data = os.read(fd, record.size)
                if len(data) == record.size:
                    yield data
                    return
            yield from stored_content(fd, record.size, record.pieces)
        except InvalidArgument as error:
            raise InvalidArgument(f"{self._named(_shown(record.path))}: {error}") from error
        finally:
            if fd >= 0:
                os.close(fd)

    def _count(self, size: int) -> None:
        self._written += size
        if self._written > self.snapshot.plain_size:
            raise InvalidArgument(f"the recipe of layer {self.snapshot.key} is too long")

    def _open(self, path: bytes) -> int:
        folder, _, name = path.rpartition(b"/")
        try:
            parent = self._parents.get(folder)
            if parent is None:
                if len(self._parents) >= _FOLDERS:
                    os.close(self._parents.pop(next(iter(self._parents))))
                parent = self._parents[folder] = open_in_root(self.tree, folder, O_DIRECTORY)
            fd = os.open(name, _FLAGS, dir_fd=parent)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(f"{self._named(_shown(path))}: {reason}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise InvalidArgument(f"{self._named(_shown(path))}: is no regular file")
        return fd

    def _named(self, problem: str) -> str:
        return f"layer {self.snapshot.key}: {problem}"

    def _forget(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()

    def _missing(self) -> list[str]:
        """Return all files, up to a hundred, that are not there or too short."""
        problems: list[str] = []
        try:
            for record in self._records():
                if not record.size or len(problems) >= _PROBLEMS:
                    continue
                try:
                    fd = self._open(record.path)
                except InvalidArgument as error:
                    problems.append(str(error))
                    continue
                if record.pieces is None and os.fstat(fd).st_size != record.size:
                    problems.append(f"{self._named(_shown(record.path))}: has another size")
                os.close(fd)
        finally:
            self._forget()
        return problems


def _shown(path: bytes) -> str:
    return f"/{os.fsdecode(path)}"


def buffered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to large ones."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _BUFFER:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)


class Hashing:
    """Hashes and writes in a thread of its own what another one collects."""

    def __init__(self, write: Write) -> None:
        self._write, self._hash = write, hashlib.sha256()
        self._queue: Queue[bytes | None] = Queue(_AHEAD)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pack", daemon=True)

    @property
    def digest(self) -> str:
        """The digest of everything; after the block."""
        return f"sha256:{self._hash.hexdigest()}"

    def put(self, data: bytes) -> None:
        """Hand on the next piece; raises what writing an earlier one raised."""
        if self._error:
            raise self._error
        self._queue.put(data)

    def __enter__(self) -> Hashing:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error and kind is None:
            raise self._error

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            if self._error:
                continue
            try:
                self._hash.update(data)
                self._write(data)
            except BaseException as error:  # noqa: BLE001 - the other thread raises it
                self._error = error
