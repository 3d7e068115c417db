"""A full disk is known as such, whoever tells of it."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from sampan.registry.content.fullness import UnlessAway, UnlessFull, is_full


def test_sqlite_says_it_in_its_own_way() -> None:
    with sqlite3.connect(":memory:") as database:
        database.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as caught:
            database.execute("CREATE TABLE t (b)").execute("INSERT INTO t VALUES (zeroblob(99999))")
    database.close()
    assert is_full(caught.value)
    assert is_full(OSError(errno.EDQUOT, "quota"))
    assert not is_full(OSError(errno.EIO, "broken"))
    assert not is_full(sqlite3.OperationalError("locked"))


def test_only_want_of_room_is_gone_over() -> None:
    with UnlessFull("it is left out") as room:
        raise OSError(errno.ENOSPC, "full")
    assert room.failed
    with pytest.raises(OSError, match="broken"), UnlessFull("it is left out"):
        raise OSError(errno.EIO, "broken")


def test_a_disk_for_reading_only_stops_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (b)")
        database.execute("PRAGMA query_only = 1")
        with UnlessFull("it is left out") as room:
            database.execute("INSERT INTO t VALUES (1)")
    database.close()
    assert room.failed
    with UnlessFull("it is left out") as room:
        raise OSError(errno.EROFS, "read-only")
    assert room.failed


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), sqlite3.OperationalError("bad")])
def test_a_cache_goes_on_whatever_fails(error: Exception) -> None:
    with UnlessAway("it is passed on") as storage:
        raise error
    assert storage.failed
    with pytest.raises(ZeroDivisionError), UnlessAway("it is passed on"):
        raise ZeroDivisionError
