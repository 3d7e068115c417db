"""The build cache: what steps made, by the digest of all that they depend on.

Layers are snapshots of the image store, held as long as the record is there; a record whose layer
has gone is no record.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from sampan.build.earlier import CACHE_TABLE, Database
from sampan.build.worker import Worker

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS {CACHE_TABLE} (
    key TEXT PRIMARY KEY,
    chain TEXT NOT NULL,
    diff_id TEXT NOT NULL,
    parent TEXT NOT NULL,
    created INTEGER NOT NULL,
    used INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    description TEXT NOT NULL
)"""
_FIELDS: Final = "key, chain, diff_id, parent, created, used, uses, description"
MOUNT: Final = "sampan-build-cache-"  # the names of volumes that commands share begin like this
_DESCRIPTION: Final = 1000  # letters


@dataclass(frozen=True, slots=True)
class Record:
    """What one step made."""

    key: str
    chain: str  # of the layer; "" if the step made none
    diff_id: str
    parent: str  # the chain below, "" if there is none
    created: int  # nanoseconds since the epoch
    used: int  # last time
    uses: int
    description: str

    @property
    def is_mount(self) -> bool:
        """It is a folder of RUN --mount=type=cache; its key is the name of the volume."""
        return self.key.startswith(MOUNT)

    @property
    def is_layer(self) -> bool:
        """It holds a layer, not only a time."""
        return bool(self.chain)


def key_of(kind: str, *parts: str | bytes | None) -> str:
    """Return the digest of a step: its kind, and all that its result depends on."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(b"|-" if raw is None else b"|%d:%s" % (len(raw), raw))
    return digest.hexdigest()


class Cache:
    """The records of one engine, in memory and in its database."""

    def __init__(self, database: Database, worker: Worker) -> None:
        self._database, self._worker = database, worker
        with database.transaction() as connection:
            connection.execute(_SCHEMA)
            rows = connection.execute(f"SELECT {_FIELDS} FROM build_cache").fetchall()  # noqa: S608
        self._records = {row[0]: Record(*row) for row in rows}
        self.has_grown = True  # by layers, as far as anybody has looked
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
        worker.keep_layers(record.chain for record in self._records.values() if record.chain)

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for others, of whatever build, that are at the same step: one of them makes it."""
        lock, users = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._turns[key]
            self._turns[key] = lock, users - 1
            if users == 1:
                del self._turns[key]

    def has(self, key: str) -> bool:
        """Tell whether a step is known; that is no use of it."""
        return key in self._records

    def find(self, key: str) -> Record | None:
        """Return what a step made, if all of it is still there; it counts as used."""
        record = self._records.get(key)
        if record is None or (record.chain and not self._worker.has_layer(record.chain)):
            return None
        used = replace(record, used=time.time_ns(), uses=record.uses + 1)
        self._records[key] = used
        return used

    async def add(self, record: Record) -> None:
        """Store what a step made, and hold its layer."""
        record = replace(record, description=record.description[:_DESCRIPTION])
        old = self._records.get(record.key)
        if record.chain:
            self.has_grown = True
            self._worker.keep_layers([record.chain])
        self._records[record.key] = record
        if old and old.chain:
            self._worker.release_layers([old.chain])
        await self._worker.call(lambda: self._write([record]))

    async def note_mount(self, volume: str, name: str) -> None:
        """Remember that a folder, which Dockerfiles call `name`, is shared by commands."""
        now = time.time_ns()
        known = self.find(volume)
        self.has_grown = True
        await self.add(known or Record(volume, "", "", "", now, now, 1, f"cached mount {name}"))

    async def note_uses(self, keys: Iterable[str]) -> None:
        """Make durable which records were used."""
        records = [self._records[key] for key in keys if key in self._records]
        if records:
            await self._worker.call(lambda: self._write(records))

    def _write(self, records: list[Record]) -> None:
        rows = [
            (it.key, it.chain, it.diff_id, it.parent, it.created, it.used, it.uses, it.description)
            for it in records
        ]
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def records(self) -> list[Record]:
        """Return all records, oldest use first."""
        return sorted(self._records.values(), key=lambda record: record.used)

    async def remove(self, keys: Iterable[str]) -> list[Record]:
        """Forget records and let their layers go; return them."""
        gone = [record for key in keys if (record := self._records.pop(key, None))]

        def delete() -> None:
            with self._database.transaction() as connection:
                connection.executemany(
                    "DELETE FROM build_cache WHERE key = ?", [(record.key,) for record in gone]
                )

        await self._worker.call(delete)
        self._worker.release_layers(record.chain for record in gone if record.chain)
        return gone
