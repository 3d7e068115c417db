"""A digest that a thread of its own computes, beside the work of the one that feeds it."""

from __future__ import annotations

import hashlib
import threading
from queue import Queue
from typing import Final, Self

_AHEAD: Final = 4  # chunks


class Digesting:
    """SHA-256 of what is put in; use it as a context manager."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._queue: Queue[bytes | None] = Queue(_AHEAD)
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        self.size = 0

    def put(self, data: bytes) -> None:
        """Add bytes; waits while others are worked on."""
        self.size += len(data)
        self._queue.put(data)

    def digest(self) -> str:
        """Return the digest of everything, as sha256:…; the end."""
        self._end()
        return f"sha256:{self._hash.hexdigest()}"

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._hash.update(data)
