"""What comes when no disk takes it: a little of it waits in memory until all who read have it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Hashable
from typing import Protocol

LIMIT = 4 << 20  # bytes that wait, before no more is taken from the upstream


class Reader(Protocol):
    """Reads what was received."""

    def read(self, offset: int, count: int) -> bytes: ...

    def close(self) -> None: ...


class Places:
    """Where each of those stands who read a blob while it comes."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._at: dict[Hashable, int] = {}

    def move(self, reader: Hashable, offset: int) -> None:
        """Note that a reader needs nothing before an offset any more."""
        with self.changed:
            self._at[reader] = max(offset, self._at.get(reader, 0))
            self.changed.notify_all()

    def leave(self, reader: Hashable) -> None:
        """Note that a reader needs nothing any more."""
        with self.changed:
            self._at.pop(reader, None)
            self.changed.notify_all()

    def needed(self) -> int | None:
        """Return from where on somebody needs what comes; None if nobody is there."""
        return min(self._at.values(), default=None)


class Overflow:
    """A blob's first bytes where they are stored, and those that could not be."""

    def __init__(self, stored: Reader | None, count: int, places: Places) -> None:
        """`stored` has the first `count` bytes."""
        self._stored = stored
        self._count = count
        self._places = places
        self._start = count  # of what waits
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        """Append, once there is room. Raises OSError if nobody reads: the disk is full."""
        with self._places.changed:
            while len(self._waiting) >= LIMIT:
                needed = self._places.needed()
                if needed is None:
                    raise OSError(errno.ENOSPC, "No space left on device, and nobody reads")
                if needed > self._start:
                    gone = min(needed - self._start, len(self._waiting))
                    del self._waiting[:gone]
                    self._start += gone
                else:
                    self._places.changed.wait()
            self._waiting += data

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes that were received and that a reader still needs."""
        if self._stored is not None and offset < self._count:
            return self._stored.read(offset, min(count, self._count - offset))
        with self._places.changed:
            at = offset - self._start
            if at < 0:
                raise OSError("the disk is full, and others have read on")
            return bytes(self._waiting[at : at + count])

    def close(self) -> None:
        if self._stored is not None:
            self._stored.close()
