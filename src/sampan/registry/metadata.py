"""What a registry knows about its files, in SQLite: indexes for questions, one writer for changes.

The layout on disk says what exists (see `inventory.py`); rows follow it. Only what no file
says lives here alone: when a blob was last promised to somebody (`touched`), and read (`verified`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 3
_SCHEMA = """
CREATE TABLE repositories (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, touched REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE links (
    repository TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX links_by_digest ON links (digest);
CREATE TABLE manifests (
    repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, subject TEXT, artifact_type TEXT NOT NULL, annotations TEXT,
    touched REAL NOT NULL, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository, subject) WHERE subject IS NOT NULL;
CREATE TABLE parts (
    repository TEXT NOT NULL, manifest TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, digest, kind)
) WITHOUT ROWID;
CREATE INDEX parts_by_digest ON parts (digest);
CREATE TABLE tags (
    repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    moved REAL NOT NULL DEFAULT 0, PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE verified (digest TEXT PRIMARY KEY, moment REAL NOT NULL) WITHOUT ROWID;
"""
# Quotas that repositories share (`quotas.py`): what those from `low` up to `high` hold, each once.
_SHARES = """
CREATE TABLE shares (low TEXT PRIMARY KEY, high TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE held (
    low TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, holders INTEGER NOT NULL,
    PRIMARY KEY (low, digest)
) WITHOUT ROWID;
CREATE TRIGGER held_more AFTER INSERT ON held BEGIN
    UPDATE shares SET used = used + NEW.size WHERE low = NEW.low;
END;
CREATE TRIGGER held_less AFTER DELETE ON held BEGIN
    UPDATE shares SET used = used - OLD.size WHERE low = OLD.low;
END;
CREATE TRIGGER held_otherwise AFTER UPDATE OF size ON held BEGIN
    UPDATE shares SET used = used + NEW.size - OLD.size WHERE low = NEW.low;
END;
CREATE TRIGGER blob_of_another_size AFTER INSERT ON blobs BEGIN
    UPDATE held SET size = NEW.size WHERE digest = NEW.digest AND size != NEW.size
        AND low IN (SELECT low FROM shares);
END;
"""
_HOLDING = """
CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
    INSERT INTO held SELECT low, NEW.digest, {size}, 1 FROM shares
        WHERE NEW.repository >= low AND NEW.repository < high
        ON CONFLICT (low, digest) DO UPDATE SET holders = holders + 1;
END;
CREATE TRIGGER {table}_removed AFTER DELETE ON {table} BEGIN
    UPDATE held SET holders = holders - 1 WHERE digest = OLD.digest AND low IN (
        SELECT low FROM shares WHERE OLD.repository >= low AND OLD.repository < high);
    DELETE FROM held WHERE digest = OLD.digest AND holders = 0
        AND low IN (SELECT low FROM shares);
END;
"""
_SCHEMA += _SHARES + _HOLDING.format(table="manifests", size="NEW.size")
_SCHEMA += _HOLDING.format(
    table="links", size="coalesce((SELECT size FROM blobs WHERE digest = NEW.digest), 0)"
)
# What lists show, told to whoever keeps answers: a repository, or "" for the catalog.
_WATCHED = (("tags", "repository"), ("repositories", "name"))
_WATCH = """
CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN
    SELECT changed({row}.{column}); SELECT changed('') WHERE '{table}' = 'repositories';
END;
"""
Row = tuple[Any, ...]


class Metadata:
    """The database of one registry. Reads go on beside the one writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = self._open()
        self._prepare()
        self.forget: Callable[[Set[str]], None] = lambda subjects: None
        self._changed: set[str] = set()
        self._watch()

    def _watch(self) -> None:
        """Let the database itself say which lists a change makes wrong: nobody can forget it."""
        self._writer.create_function("changed", 1, self._changed.add)
        for table, column in _WATCHED:
            for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                self._writer.execute(
                    _WATCH.format(table=table, event=event, row=row, column=column)
                )

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # The layout is the truth and rows can be made anew, so a power failure may cost some.
        connection.execute("PRAGMA synchronous = NORMAL")
        with self._connections_lock:
            self._connections.append(connection)
        return connection

    def _prepare(self) -> None:
        """Make the tables; a database of another version is thrown away, for files say it all."""
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version == SCHEMA_VERSION:
            return
        tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
        script = [f"DROP TABLE {name};" for (name,) in self._writer.execute(tables).fetchall()]
        self._writer.executescript(
            f"BEGIN; {''.join(script)} {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
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

    def close(self) -> None:
        """Close all connections, of whatever thread."""
        with self._lock, self._connections_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
