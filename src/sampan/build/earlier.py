"""Whether there were builds: a daemon that has none to remember does not load the rest."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from typing import Final, Protocol

CACHE_TABLE: Final = "build_cache"


class Database(Protocol):
    """The engine's database."""

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Hold the connection for one change."""


def were_builds(database: Database) -> bool:
    """Tell whether a build cache is kept: its layers are to be held before others are removed."""
    with database.transaction() as connection:
        found = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [CACHE_TABLE]
        )
        return found.fetchone() is not None
