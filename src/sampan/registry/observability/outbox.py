"""Events that wait to be told: in a file of SQLite, and in memory while that takes nothing."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
WAITING_LIMIT = 100_000  # events that one endpoint may be behind; then the oldest are given up
MEMORY = 4 << 20  # bytes of events that wait in memory; then the oldest are given up


@dataclass
class _Late:
    """An event that is in no file."""

    number: int  # negative, and falling: files have the others
    endpoints: set[str]
    body: bytes


class Outbox:
    """Events that wait. Safe to use from several threads.

    A disk that is full keeps no client from what it asked for: the event waits in memory, in its
    order, is told from there, and written down as soon as that is possible. A kill loses it then.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._late: deque[_Late] = deque()
        self._numbers = 0
        self._lost = 0
        self._told: dict[str, int] = {}  # events up to this number are told, removed or not
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS events"
            " (id INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT NOT NULL, body BLOB NOT NULL)"
        )
        self._database.execute("CREATE INDEX IF NOT EXISTS by_endpoint ON events (endpoint, id)")

    def add(self, endpoints: Sequence[str], body: bytes) -> None:
        """Keep one event for each of these endpoints."""
        with self._lock:
            was_well = not self._late
            self._numbers -= 1
            self._late.append(_Late(self._numbers, set(endpoints), body))
            try:
                self._write_down()
            except sqlite3.Error as error:
                if was_well:
                    log.error("events wait in memory, and end with the registry: %s", error)
                self._give_up()

    def _write_down(self) -> None:
        """Write down what waits in memory."""
        if not self._late:
            return
        rows = [(name, late.body) for late in self._late for name in sorted(late.endpoints)]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT INTO events (endpoint, body) VALUES (?, ?)", rows)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
            raise
        if len(self._late) > 1 or self._lost:
            log.info("events are written down again: %d, %d are lost", len(self._late), self._lost)
        self._late.clear()
        self._lost = 0

    def _give_up(self) -> None:
        size = sum(len(late.body) for late in self._late)
        while size > MEMORY and len(self._late) > 1:
            size -= len(self._late.popleft().body)
            self._lost += 1
            if self._lost == 1:
                log.error("too many events wait in memory: the oldest are given up")

    def first(self, endpoint: str) -> tuple[int, bytes] | None:
        """Return the oldest event for an endpoint with its number; None if there is none."""
        query = "SELECT id, body FROM events WHERE endpoint = ? AND id > ? ORDER BY id LIMIT 1"
        with self._lock:
            with suppress(sqlite3.Error):
                self._write_down()
            told = self._told.get(endpoint, 0)
            row = self._database.execute(query, (endpoint, told)).fetchone()
            if row:
                return (row[0], row[1])
            for late in self._late:
                if endpoint in late.endpoints:
                    return late.number, late.body
        return None

    def done(self, endpoint: str, number: int) -> None:
        """Forget an event that was told, the oldest of its endpoint."""
        with self._lock:
            if number < 0:
                for late in self._late:
                    if late.number == number:
                        late.endpoints.discard(endpoint)
                while self._late and not self._late[0].endpoints:
                    self._late.popleft()
                return
            self._told[endpoint] = number
            with suppress(sqlite3.Error):  # those who come later are removed with it
                self._database.execute(
                    "DELETE FROM events WHERE endpoint = ? AND id <= ?", (endpoint, number)
                )

    def waiting(self, endpoint: str) -> int:
        """Return how many events wait."""
        with self._lock:
            query = "SELECT count(*) FROM events WHERE endpoint = ? AND id > ?"
            told = self._told.get(endpoint, 0)
            (count,) = self._database.execute(query, (endpoint, told)).fetchone()
            return int(count) + sum(endpoint in late.endpoints for late in self._late)

    def trim(self, endpoint: str, limit: int = WAITING_LIMIT) -> int:
        """Give up the oldest events over a limit; return how many."""
        with self._lock:
            done = self._database.execute(
                "DELETE FROM events WHERE endpoint = ? AND id <= (SELECT id FROM events"
                " WHERE endpoint = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (endpoint, endpoint, limit),
            )
            return done.rowcount

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            try:
                self._write_down()
            except sqlite3.Error as error:
                log.error("%d events are lost: %s", len(self._late), error)
            self._database.close()
