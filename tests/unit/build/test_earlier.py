"""Whether there were builds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sampan.build.earlier import CACHE_TABLE, were_builds


class Memory:
    """A database of its own."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with self.connection:
            yield self.connection


def test_there_were_builds_once_a_cache_is_kept() -> None:
    database = Memory()
    assert not were_builds(database)
    database.connection.execute(f"CREATE TABLE {CACHE_TABLE} (key TEXT)")
    assert were_builds(database)
    database.connection.close()
