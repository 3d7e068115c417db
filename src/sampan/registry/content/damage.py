"""Files that are not what rows say of them: each is told once in the log, whoever asks for it."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)
REMEMBERED = 10_000  # files that were told; more than that is told again


class Damage:
    """What was found damaged so far. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, int | None] = {}

    def found(self, repository: str, digest: str, size: int | None, wanted: int) -> None:
        """Tell of a file that has `size` bytes, or is missing (None), unless that was told."""
        with self._lock:
            if digest in self._told and self._told[digest] == size:
                return
            if len(self._told) >= REMEMBERED:
                self._told.clear()
            self._told[digest] = size
        what = "is missing" if size is None else f"has {size} bytes instead of {wanted}"
        log.error("%s of %s is damaged: its file %s", digest, repository, what)

    def mended(self, digest: str) -> None:
        """Take note that a file is new."""
        with self._lock:
            self._told.pop(digest, None)
