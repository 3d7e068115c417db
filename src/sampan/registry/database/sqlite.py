"""The database of a registry that is one process: SQLite, in a file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from sampan.registry.database.clock import TABLE, SteadyClock, noted
from sampan.registry.database.metadata import Row
from sampan.registry.database.schema import SCHEMA_VERSION, SQLITE

# What lists show, told to whoever keeps answers: a repository, or "" for the catalog.
_WATCHED = (("tags", "repository"), ("repositories", "name"))
_WATCH = """
CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN
    SELECT changed({row}.{column}); SELECT changed('') WHERE '{table}' = 'repositories';
END;
"""


class Changing(sqlite3.Connection):
    """A connection, which may be within a change."""

    def confirm(self) -> None:
        """There are no other processes."""


class SqliteMetadata:
    """Each thread reads on a connection of its own."""

    shared = False
    alone = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._local = threading.local()
        self._connections: list[Changing] = []
        self._connections_lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.forget: Callable[[Set[str]], None] = lambda subjects: None
        self._changed: set[str] = set()
        try:
            self._writer = self._open()
            self._prepare()
            self._clock = SteadyClock(self._begin())
            self._watch()
        except BaseException:
            self.close()
            raise

    def now(self) -> float:
        """Return the time that promises are counted by."""
        return self._clock.now()

    def _begin(self) -> float:
        """Return the time to go on from.

        That of the last note, where there is one: the time of day may be wrong at a start, too.
        """
        query = "SELECT coalesce(max(touched), 0) FROM blobs"
        (latest,) = self._writer.execute(query).fetchone()
        known = noted(self._writer)
        # A machine that has lost its clock must not keep all that it has for ever.
        return float(max(time.time() if known is None else known, latest))

    def note_time(self) -> None:
        """Have the next start go on from now."""
        with self.change() as database:
            self._clock.note(database)

    def catch_up(self) -> None:
        """Believe the time of day, if it is later."""
        self._clock.advance(time.time())

    def _watch(self) -> None:
        """Let the database itself say which lists a change makes wrong: nobody can forget it."""
        self._writer.create_function("changed", 1, self._changed.add)
        for table, column in _WATCHED:
            for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                self._writer.execute(
                    _WATCH.format(table=table, event=event, row=row, column=column)
                )

    def _open(self) -> Changing:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, factory=Changing
        )
        with self._connections_lock:
            self._connections.append(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        # The layout is the truth and rows can be made anew, so a power failure may cost some.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _prepare(self) -> None:
        """Make the tables; a database of another version is thrown away, for files say it all."""
        self._writer.execute(TABLE)
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version == SCHEMA_VERSION:
            return
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'clock'"
        script = [f"DROP TABLE {name};" for (name,) in self._writer.execute(tables).fetchall()]
        self._writer.executescript(
            f"BEGIN; {''.join(script)} {SQLITE} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )

    @contextmanager
    def change(self) -> Iterator[Changing]:
        """Be the only one who changes the registry, its files too; undone if it raises."""
        with self._lock:
            if self._writer.in_transaction:  # this thread is within a change already
                yield self._writer
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                self._undo()
                raise
            finally:
                if self._changed:  # also after a failure: it is not known what was done
                    self.forget(frozenset(self._changed))
                    self._changed.clear()

    def _undo(self) -> None:
        if self._writer.in_transaction:  # SQLite itself ends a change that fills the disk
            self._writer.execute("ROLLBACK")

    def rows(self, query: str, *values: object) -> list[Row]:
        """Ask; the answer is that of the last change that ended."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open()
        found: list[Row] = connection.execute(query, values).fetchall()
        return found

    def row(self, query: str, *values: object) -> Row | None:
        """Return the first row of an answer; None if there is none."""
        found = self.rows(query, *values)
        return found[0] if found else None

    def ready(self) -> None:
        """Nobody waits."""

    @contextmanager
    def hold(self, what: str) -> Iterator[bool]:
        """There are no other processes."""
        yield True

    def close(self) -> None:
        """Close all connections, of whatever thread."""
        with self._lock, self._connections_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
