"""The engine's SQLite database: what must last, written before it is told."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sampan.errors import Internal, NoSpace

SCHEMA_VERSION = 2  # 2: images have targets, layers no archives
SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    document BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS id_ranges (
    container TEXT PRIMARY KEY REFERENCES containers (id) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    size INTEGER NOT NULL
);
"""


class Database:
    """One connection, used from any thread; a lock lets one at a time write or read."""

    def __init__(self, path: Path | str) -> None:
        """Open or make the database; raises Internal if a newer engine has written it."""
        self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.RLock()
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")  # durable before it is told
        self.connection.execute("PRAGMA foreign_keys=ON")
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            self.connection.close()
            raise Internal(f"the database at {path} was written by a newer version of Sampan")
        self.connection.executescript(SCHEMA)
        self.connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for one change; it is durable when the block has ended."""
        with self._lock:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException as error:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                    raise NoSpace("no space left on device: the engine's database") from error
                raise

    # --- containers ----------------------------------------------------------------------------

    def containers(self) -> list[bytes]:
        """Return the documents of all containers."""
        with self._lock:
            return [row[0] for row in self.connection.execute("SELECT document FROM containers")]

    def save_container(
        self, id: str, name: str, document: bytes, id_range: tuple[int, int] | None = None
    ) -> None:
        """Insert or replace a container; raises sqlite3.IntegrityError if the name is taken.

        `id_range` is the range of ids that it runs in, kept until the container is deleted.
        """
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO containers VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET name = excluded.name, document = excluded.document",
                (id, name, document),
            )
            if id_range:
                values = (id, *id_range)
                connection.execute("INSERT OR REPLACE INTO id_ranges VALUES (?, ?, ?)", values)

    def delete_container(self, id: str) -> None:
        """Forget a container; unknown ids are no error."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM containers WHERE id = ?", (id,))

    def id_ranges(self) -> list[tuple[int, int]]:
        """Return (first, size) of all ranges of ids that containers have."""
        with self._lock:
            return list(self.connection.execute("SELECT DISTINCT first, size FROM id_ranges"))

    def keep_id_range(self, container: str, first: int, size: int) -> None:
        """Note that a container, which is saved, has a range of ids."""
        with self.transaction() as connection:
            values = (container, first, size)
            connection.execute("INSERT OR REPLACE INTO id_ranges VALUES (?, ?, ?)", values)

    # --- facts ---------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """Return a value that was kept by `keep_fact`."""
        with self._lock:
            row = self.connection.execute("SELECT value FROM facts WHERE name = ?", (name,))
            found = row.fetchone()
        return found[0] if found else None

    def keep_fact(self, name: str, value: str) -> None:
        """Keep one small value under a name."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self.connection.close()
