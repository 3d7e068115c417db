"""The table of volumes. Who uses one is not in it: the containers know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from sampan.engine.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS volumes (
    name TEXT PRIMARY KEY,
    made_for TEXT NOT NULL,
    document BLOB NOT NULL
)
"""
ANONYMOUS: Final = "com.docker.volume.anonymous"  # the label of a volume that nobody has named


class VolumeRow(msgspec.Struct, kw_only=True):
    """A volume as it is stored."""

    name: str
    driver: str
    created: int  # nanoseconds since the epoch
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    # The container with which it was made: without that one it goes, should it never have come to
    # be. Empty once that container was removed, and for a volume that was made by itself.
    made_for: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Tell whether it goes with the last container that has it."""
        return ANONYMOUS in (self.labels or {})


class VolumeDatabase:
    """All volumes, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            connection.execute(SCHEMA)

    def all(self) -> list[VolumeRow]:
        """Return all volumes."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT document, made_for FROM volumes").fetchall()
        found = []
        for document, made_for in rows:
            row = msgspec.json.decode(document, type=VolumeRow)
            row.made_for = made_for
            found.append(row)
        return found

    def add(self, rows: Iterable[VolumeRow]) -> None:
        """Insert volumes, all or none."""
        values = [(row.name, row.made_for, msgspec.json.encode(row)) for row in rows]
        with self._database.transaction() as connection:
            connection.executemany("INSERT INTO volumes VALUES (?, ?, ?)", values)

    def keep(self, container: str) -> None:
        """Note that volumes outlive the container for which they were made."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE volumes SET made_for = '' WHERE made_for = ?", (container,))

    def delete(self, names: Sequence[str]) -> None:
        """Forget volumes; unknown names are no error."""
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM volumes WHERE name = ?", [(it,) for it in names])
