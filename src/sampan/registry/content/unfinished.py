"""What uploads that are not finished take of quotas: a row each, with the bytes set aside for it.

Rows are there only where quotas are. An upload has in its row what it has received, or more while
a request writes to it: all that the request has announced, or a step where it announces nothing.
The files are the truth again: a start makes the rows those of the uploads that it finds.
"""

from __future__ import annotations

from sampan.registry.content.quotas import Quotas
from sampan.registry.database.metadata import Database, Metadata
from sampan.registry.errors import RegistryError
from sampan.spec.digest import Digest

STEP = 16 << 20  # bytes that are set aside at once for a stream of unknown length
IDLE_SECONDS = 300.0  # then an upload is ended if others need its room
_PUT = (
    "INSERT INTO uploads VALUES (?, ?, ?, ?) ON CONFLICT (repository, upload)"
    " DO UPDATE SET size = excluded.size, moment = excluded.moment"
)


class Unfinished:
    """The rows of uploads that are not finished."""

    def __init__(self, metadata: Metadata, quotas: Quotas) -> None:
        self._metadata = metadata
        self._quotas = quotas

    def begin(self, repository: str, key: str, digest: Digest | None) -> None:
        """Count a new upload. Raises TOOMANYREQUESTS, and DENIED if there is no room at all."""
        if not self._quotas.count_uploads(repository):
            return
        with self._metadata.change() as database:
            self._quotas.admit_upload(database, repository)
            self._quotas.room(database, repository, 1, digest)
            database.execute(_PUT, (repository, key, 0, self._metadata.now()))

    def reserve(
        self, repository: str, key: str, size: int, digest: Digest | None, *, step: bool = True
    ) -> int | None:
        """Set bytes aside for an upload, which needs `size` in all; with `step` more if there are.

        Returns how many it has then; None: it may have any number. Raises DENIED.
        """
        if not self._quotas.count_uploads(repository):
            return None
        with self._metadata.change() as database:
            room = self._quotas.room(database, repository, size, digest, key)
            if room is None:
                return None
            got = min(room, size + STEP) if step else size
            database.execute(_PUT, (repository, key, got, self._metadata.now()))
        return got

    def settle(self, repository: str, key: str, size: int) -> None:
        """Set aside no more for an upload than it has received."""
        with self._metadata.change() as database:
            database.execute(
                "UPDATE uploads SET size = ?, moment = ? WHERE repository = ? AND upload = ?",
                (size, self._metadata.now(), repository, key),
            )

    def end(self, repository: str, key: str) -> None:
        """Count an upload no longer."""
        if self._quotas.count_uploads(repository):
            with self._metadata.change() as database:
                forget_upload(database, repository, key)

    def idle(self, repository: str) -> list[tuple[str, str]]:
        """Return the uploads that count with those of a repository and are left alone, by age."""
        before = self._metadata.now() - IDLE_SECONDS
        query = (
            "SELECT moment, repository, upload FROM uploads"
            " WHERE repository >= ? AND repository < ? AND moment < ?"
        )
        found = {
            row
            for low, high in self._quotas.sharers(repository)
            for row in self._metadata.rows(query, low, high, before)
        }
        return [(name, key) for _, name, key in sorted(found)]


def is_of_uploads(error: RegistryError) -> bool:
    """Tell whether a quota might admit what it has refused, if there were fewer uploads."""
    first = error.items[0]
    if first.code == "TOOMANYREQUESTS":
        return True
    return (
        first.code == "DENIED"
        and isinstance(first.detail, dict)
        and bool(first.detail.get("unfinished"))
    )


def forget_upload(database: Database, repository: str, key: str) -> None:
    """Remove the row of an upload."""
    database.execute("DELETE FROM uploads WHERE repository = ? AND upload = ?", (repository, key))
