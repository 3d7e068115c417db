"""Contexts that clients have sent, kept so that the next build asks only for what has changed.

A file is taken from before if its path, size and time of change are the same, as BuildKit does it.
What is taken are bytes with the digest that was made of them when they came: no key of the cache
is ever made of what a client says about a file. A file that was changed less than two seconds
before it came is asked for again: one more change may have left its time as it was.

The contents lie in one file without a name, which is gone when the engine ends; behind them lies
the index, so that a context that nobody builds costs no memory.

Source: buildkit source/local, tonistiigi/fsutil diff_containerd.go (what counts as unchanged).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from sampan.build.files.tree import File, Spool

_CONTEXTS: Final = 8  # that are kept; the one used longest ago goes
_WORTH: Final = 1 << 20  # bytes below which a context is soon sent again
_WASTE: Final = 64 << 20  # bytes of files that have gone, with as many as there are
_RACE: Final = 2 * 10**9  # nanoseconds
_RECORD: Final = struct.Struct("<qqq32s")  # time of change, size, place, digest
_Record = tuple[int, int, int, bytes]


@dataclass(frozen=True, slots=True)
class _Kept:
    spool: Spool
    contents: int  # bytes; the index comes next
    records: int  # bytes of the fixed part of the index
    names: int  # bytes of the paths

    @property
    def size(self) -> int:
        return self.contents + self.records + self.names


class Transfer:
    """One context on its way in, with what is there of it from before."""

    def __init__(self, spool: Spool, known: Mapping[bytes, _Record]) -> None:
        self.spool, self._known = spool, known
        self._started = time.time_ns()
        self._paths: list[bytes] = []
        self._records: list[bytes] = []
        self._live = 0  # bytes
        self._start, self._end = spool.size, -1

    def find(self, path: bytes, file: File) -> bool:
        """Give a file the content that it had before; False if it may be another one."""
        known = self._known.get(path)
        if known is None or known[:2] != (file.mtime, file.size):
            return False
        file.stored, file.at, file.digest = file.size, known[2], known[3]
        return True

    def add(self, path: bytes, file: File) -> None:
        """Remember a content that is complete."""
        self._live += file.stored
        if file.mtime <= self._started - _RACE and b"\0" not in path:
            self._paths.append(path)
            self._records.append(_RECORD.pack(file.mtime, file.stored, file.at, file.digest))

    def complete(self) -> None:
        """Say that all of the context is there; what the spool gets from now on is not of it."""
        self._known = {}
        self.spool.flush()
        self._end = self.spool.size

    @property
    def is_untouched(self) -> bool:
        """Nothing has come in: no instruction of the build has asked for it."""
        return self._end < 0 and self.spool.size == self._start

    def kept(self) -> _Kept | None:
        """Write the index; None if it is not worth it."""
        end = self._end
        if end < 0 or self._live < _WORTH or end > 2 * self._live + _WASTE:
            return None
        records, names = b"".join(self._records), b"\0".join(self._paths)
        os.ftruncate(self.spool.fd, end)
        self.spool.put(end, records + names)
        return _Kept(self.spool, end, len(records), len(names))


class KeptContexts:
    """The contexts that one engine keeps, by what their clients call them."""

    def __init__(self, scratch: Callable[[], int]) -> None:
        self._scratch = scratch
        self._kept: dict[str, _Kept] = {}

    @contextmanager
    def transfer(self, key: str) -> Iterator[Transfer]:
        """Take a context in, and keep it for the next time; with the key "" only for now.

        Two that come at once under one key know nothing of each other; the last one stays.
        """
        kept = self._kept.pop(key, None)
        if kept is None:
            transfer = Transfer(Spool(self._scratch()), {})
        else:
            transfer = Transfer(Spool(kept.spool.fd, kept.contents), _read(kept))
        try:
            yield transfer
        finally:
            done = kept if transfer.is_untouched and key not in self._kept else None
            with suppress(OSError):  # no space for the index
                done = done or (transfer.kept() if key else None)
            if done is None:
                transfer.spool.close()
            else:
                self._keep(key, done)

    def _keep(self, key: str, kept: _Kept) -> None:
        if old := self._kept.pop(key, None):
            old.spool.close()
        self._kept[key] = kept
        while len(self._kept) > _CONTEXTS:
            self._kept.pop(next(iter(self._kept))).spool.close()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(kept.size for kept in self._kept.values())

    def drop(self) -> int:
        """Let all of them go; return how many bytes that frees."""
        freed = self.size
        while self._kept:
            self._kept.popitem()[1].spool.close()
        return freed


def _read(kept: _Kept) -> Mapping[bytes, _Record]:
    fd, at = kept.spool.fd, kept.contents
    records = os.pread(fd, kept.records, at)
    names = os.pread(fd, kept.names, at + kept.records)
    return dict(zip(names.split(b"\0"), _RECORD.iter_unpack(records), strict=False))
