"""The driver `inmemory`: nothing outlasts the process. For tests and trials."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Self

from sampan.registry.drivers.driver import (
    Change,
    Closing,
    File,
    Written,
    read_or_none,
    size_or_none,
)


class _File:
    def __init__(self, data: bytearray) -> None:
        self.data = data
        self.modified = time.time()


class InMemoryDriver:
    """Keeps a registry in memory."""

    moves_cheaply = True

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def _file(self, path: str) -> _File:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file", path) from None

    def read(self, path: str) -> bytes:
        with self._lock:
            return bytes(self._file(path).data)

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        return (read_or_none(self, path) for path in paths)

    def survey(self, path: str) -> Self:
        return self

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        with self._lock:
            for path, content in files:
                self._files[path] = _File(bytearray(content))

    def stage(self, files: Sequence[File]) -> Written:
        return Written(self, files)

    def settle(self, paths: Sequence[str]) -> None:
        """Nothing outlasts the process."""

    def size(self, path: str) -> int:
        with self._lock:
            return len(self._file(path).data)

    def grown(self, path: str, note: str) -> int:
        size = size_or_none(self, path)
        if size is None:
            self.size(note)  # raises FileNotFoundError
        return size or 0

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        return [size_or_none(self, path) for path in paths]

    def modified(self, path: str) -> float:
        with self._lock:
            return self._file(path).modified

    def list(self, path: str) -> list[str]:
        inside = f"{path}/"
        with self._lock:
            found = {
                name[len(inside) :].partition("/")[0]
                for name in self._files
                if name.startswith(inside)
            }
        return sorted(found)

    def open(self, path: str) -> MemoryContent:
        with self._lock:
            return MemoryContent(self._file(path).data)

    def append(self, path: str, offset: int) -> MemoryWriter:
        with self._lock:
            file = self._files.setdefault(path, _File(bytearray()))
            # A new buffer: those who read the old one keep it as it was.
            kept = bytes(file.data[:offset])
            file.data = bytearray(kept.ljust(offset, b"\0"))
            return MemoryWriter(file)

    def url(self, path: str, method: str) -> str:
        return ""

    def move(self, source: str, target: str, version: str = "") -> MemoryMove:
        return MemoryMove(self, source, target)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name."""
        with self._lock:
            self._files[target] = self._file(source)
            del self._files[source]

    def delete(self, *groups: Sequence[str], within: Change) -> None:
        within.confirm()
        with self._lock:
            for path in chain(*groups):
                self._files.pop(path, None)
                for name in [name for name in self._files if name.startswith(f"{path}/")]:
                    del self._files[name]

    def sweep(self, before: float) -> None:
        """Nothing outlasts what it was made for."""

    def check(self) -> None:
        """Memory is always there."""

    def close(self) -> None:
        """Nothing is held."""


class MemoryMove(Closing):
    """A rename that waits."""

    def __init__(self, driver: InMemoryDriver, source: str, target: str) -> None:
        self._driver, self._source, self._target = driver, source, target

    def prepare(self) -> None:
        """A rename takes no time."""

    def publish(self) -> None:
        self._driver.rename(self._source, self._target)


class MemoryContent(Closing):
    """A file to read."""

    local = ""
    descriptor = -1

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self._data[offset : min(offset + count, self.size)])


class MemoryWriter(Closing):
    """A file that grows."""

    version = ""

    def __init__(self, file: _File) -> None:
        self._file = file

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._file.data += data
        self._file.modified = time.time()

    def sync(self) -> None:
        """Nothing outlasts the process."""
