"""Failures for want of room, whoever tells of them: the system, or SQLite."""

from __future__ import annotations

import errno
import logging
import sqlite3
from typing import Self

log = logging.getLogger(__name__)

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: BaseException) -> bool:
    """Tell whether something failed because a disk, or what may be used of it, is full."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in FULL


class UnlessFull:
    """Goes on where something fails for want of room: what that means is logged.

    with UnlessFull("it is not noted") as room:
        note()
    if room.full: ...
    """

    def __init__(self, meaning: str) -> None:
        self._meaning = meaning
        self.full = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.full = error is not None and is_full(error)
        if self.full:
            log.warning("%s: %s", self._meaning, error)
        return self.full
