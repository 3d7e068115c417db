"""Builds that have ended, in the engine's database: what they were asked for, and what they said.

What a record says is the face's; here it is bytes. The oldest go, but those that are pinned.

Source: buildkit solver/llbsolver/history.go (limits), docker documentation,
`docker buildx history`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from sampan.build.earlier import Database

T = TypeVar("T")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS build_history (
    ref TEXT PRIMARY KEY,
    completed INTEGER NOT NULL,
    pinned INTEGER NOT NULL,
    record BLOB NOT NULL,
    log BLOB NOT NULL
)"""
_ATTACHMENTS: Final = """
CREATE TABLE IF NOT EXISTS build_attachments (
    ref TEXT NOT NULL,
    digest TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (ref, digest)
)"""
_TIDY: Final = "DELETE FROM build_attachments WHERE ref NOT IN (SELECT ref FROM build_history)"
_SWEEP: Final = """
DELETE FROM build_history WHERE pinned = 0 AND ref NOT IN
    (SELECT ref FROM build_history WHERE pinned = 0 ORDER BY completed DESC LIMIT ?)"""
LIMIT: Final = 50  # builds that are remembered, besides the pinned ones
PINNED: Final = 200  # as many can be pinned


@dataclass(frozen=True, slots=True)
class Entry:
    """One build."""

    ref: str
    completed: int  # nanoseconds since the epoch
    record: bytes
    pinned: bool = False


class Caller(Protocol):
    """Whoever calls functions in threads; see build.worker.Worker."""

    async def call(self, func: Callable[[], T]) -> T:
        """Return what a function returns that is called in a thread."""


class Memory:
    """The builds that one engine remembers."""

    def __init__(self, database: Database, caller: Caller, limit: int = LIMIT) -> None:
        self._database, self._caller, self._limit = database, caller, limit
        with database.transaction() as connection:
            connection.execute(_SCHEMA)
            connection.execute(_ATTACHMENTS)
            connection.execute(_SWEEP, [limit])
            connection.execute(_TIDY)

    async def add(
        self, entry: Entry, log: bytes, attachments: Mapping[str, bytes] | None = None
    ) -> None:
        """Remember a build, and forget those that are too many.

        `attachments` are documents that the record names, by their digests.
        """
        known = [(entry.ref, digest, it) for digest, it in (attachments or {}).items()]

        def write() -> None:
            row = entry.ref, entry.completed, entry.pinned, entry.record, log
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO build_history VALUES (?, ?, ?, ?, ?)", row
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO build_attachments VALUES (?, ?, ?)", known
                )
                connection.execute(_SWEEP, [self._limit])
                connection.execute(_TIDY)

        await self._caller.call(write)

    async def entries(self, ref: str = "") -> list[Entry]:
        """Return all builds, or the one that has a ref, the last one first."""

        def read() -> list[Entry]:
            which = "WHERE ref = ?" if ref else ""
            with self._database.transaction() as connection:
                rows = connection.execute(
                    "SELECT ref, completed, record, pinned FROM build_history"  # noqa: S608
                    f" {which} ORDER BY completed DESC",
                    [ref] if ref else [],
                ).fetchall()
            return [Entry(row[0], row[1], row[2], bool(row[3])) for row in rows]

        return await self._caller.call(read)

    async def log(self, ref: str) -> bytes | None:
        """Return what a build has said, None if nobody remembers it."""

        def read() -> bytes | None:
            with self._database.transaction() as connection:
                row = connection.execute(
                    "SELECT log FROM build_history WHERE ref = ?", [ref]
                ).fetchone()
            return None if row is None else bytes(row[0])

        return await self._caller.call(read)

    async def attachment(self, digest: str) -> bytes | None:
        """Return a document that the record of a build names, None if none does."""

        def read() -> bytes | None:
            with self._database.transaction() as connection:
                row = connection.execute(
                    "SELECT content FROM build_attachments WHERE digest = ?", [digest]
                ).fetchone()
            return None if row is None else bytes(row[0])

        return await self._caller.call(read)

    async def remove(self, ref: str) -> bool:
        """Forget a build; tell whether it was there."""
        return await self._changed("DELETE FROM build_history WHERE ref = ?", [ref])

    async def pin(self, ref: str, *, pinned: bool) -> bool:
        """Keep a build whatever comes, or no longer; False if it is not there, or too many are."""
        if not pinned:
            return await self._changed("UPDATE build_history SET pinned = 0 WHERE ref = ?", [ref])
        return await self._changed(
            "UPDATE build_history SET pinned = 1 WHERE ref = ? AND"
            " (SELECT count(*) FROM build_history WHERE pinned = 1) < ?",
            [ref, PINNED],
        )

    async def _changed(self, statement: str, values: list[str | int]) -> bool:
        def change() -> bool:
            with self._database.transaction() as connection:
                changed = connection.execute(statement, values).rowcount > 0
                connection.execute(_TIDY)
                return changed

        return await self._caller.call(change)
