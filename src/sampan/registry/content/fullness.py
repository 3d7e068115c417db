"""Failures of our storage that one can go on with, whoever tells of them: the system, or SQLite."""

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


def is_closed(error: BaseException) -> bool:
    """Tell whether nothing can be written: all is full, or for reading only after an error."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is a reason
        return is_full(error) or code == sqlite3.SQLITE_READONLY
    return is_full(error) or (isinstance(error, OSError) and error.errno == errno.EROFS)


def is_of_storage(error: BaseException) -> bool:
    """Tell whether files or rows could not be read or written, for whatever reason."""
    return isinstance(error, OSError | sqlite3.Error)


class UnlessFull:
    """Goes on where nothing can be written for want of room: what that means is logged.

    with UnlessFull("it is not noted") as room:
        note()
    if room.failed: ...
    """

    _counts = staticmethod(is_closed)

    def __init__(self, meaning: str) -> None:
        self._meaning = meaning
        self.failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.failed = error is not None and self._counts(error)
        if self.failed:
            log.warning("%s: %s", self._meaning, error)
        return self.failed


class UnlessAway(UnlessFull):
    """Goes on where our own storage fails, for want of room or whatever else: a cache can."""

    _counts = staticmethod(is_of_storage)
