"""Promises are counted by a clock that does not jump."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from sampan.registry.database.clock import SteadyClock
from sampan.registry.database.sqlite import SqliteMetadata

YEAR = 365 * 86400.0


def test_what_is_done_to_the_machines_clock_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteadyClock(1000.0)
    before = clock.now()
    for jump in (YEAR, -YEAR):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        assert 1000.0 <= before <= clock.now() < 1000.0 + YEAR
        before = clock.now()


def test_a_machine_that_has_lost_its_clock_goes_on_from_its_last_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    with contextlib.closing(SqliteMetadata(tmp_path / "rows.db")) as rows:
        assert rows.now() == pytest.approx(now, abs=60)
        with rows.change() as database:
            database.execute("INSERT INTO blobs VALUES ('sha256:x', 1, ?)", (now,))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with contextlib.closing(SqliteMetadata(tmp_path / "rows.db")) as rows:
        assert rows.now() >= now


@pytest.mark.parametrize("ahead", [YEAR, -YEAR])
def test_a_start_goes_on_from_the_time_that_was_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    now = time.time()
    with contextlib.closing(SqliteMetadata(tmp_path / "rows.db")) as rows:
        rows.note_time()
    monkeypatch.setattr(time, "time", lambda: now + ahead)
    with contextlib.closing(SqliteMetadata(tmp_path / "rows.db")) as rows:
        assert rows.now() == pytest.approx(now, abs=60)
        rows.catch_up()  # whoever knows that the clock is right says so
        assert rows.now() == pytest.approx(now + max(ahead, 0.0), abs=60)


def test_the_time_outlasts_tables_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    with contextlib.closing(SqliteMetadata(path)) as rows:
        rows.note_time()
        with rows.change() as database:
            database.execute("UPDATE clock SET moment = 1e9")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1")
    with contextlib.closing(SqliteMetadata(path)) as rows:
        assert rows.now() == pytest.approx(1e9, abs=60)
