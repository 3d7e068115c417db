"""Records of containers on their way to the database and back."""

from __future__ import annotations

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container, Record
from sampan.engine.database import Database

_decoder = msgspec.msgpack.Decoder(Record)


class ContainerStore:
    """Saves and loads records; what it has saved is durable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> list[Record]:
        """Return all records."""
        return [_decoder.decode(document) for document in self._database.containers()]

    async def save(self, container: Container) -> None:
        """Write the record as it is now; sqlite3.IntegrityError if another has the name."""
        record = container.record
        document = msgspec.msgpack.encode(record)
        save = self._database.save_container
        await blocking(save, record.id, record.name, document, record.id_range)

    async def delete(self, container: Container) -> None:
        """Forget the record."""
        await blocking(self._database.delete_container, container.id)
