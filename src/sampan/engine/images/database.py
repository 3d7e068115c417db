"""The tables of images: names, layers, sizes. Every change is durable before it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sampan.engine.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY,
    parent TEXT NOT NULL DEFAULT '',
    last_tagged INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS image_references (
    reference TEXT PRIMARY KEY,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS image_layers (
    diff_id TEXT PRIMARY KEY,
    blob TEXT NOT NULL,
    blob_size INTEGER NOT NULL,
    plain_size INTEGER NOT NULL,
    media_type TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS image_chains (
    chain_id TEXT PRIMARY KEY,
    diff_id TEXT NOT NULL,
    size INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image, without what its configuration says."""

    id: str
    parent: str
    last_tagged: int


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer in the content store."""

    diff_id: str
    blob: str
    blob_size: int
    plain_size: int
    media_type: str


class ImageDatabase:
    """The tables, in the engine's database; may be used from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)

    def images(self) -> list[ImageRow]:
        """Return all images."""
        return [ImageRow(*row) for row in self._rows("SELECT id, parent, last_tagged FROM images")]

    def references(self) -> list[tuple[str, str]]:
        """Return all (reference, image)."""
        return [
            (row[0], row[1]) for row in self._rows("SELECT reference, image FROM image_references")
        ]

    def layers(self) -> list[LayerRow]:
        """Return all layers."""
        columns = "diff_id, blob, blob_size, plain_size, media_type"
        return [LayerRow(*row) for row in self._rows(f"SELECT {columns} FROM image_layers")]  # noqa: S608

    def chains(self) -> list[tuple[str, str, int]]:
        """Return all (chain id, diff id of its top layer, bytes of its top layer)."""
        rows = self._rows("SELECT chain_id, diff_id, size FROM image_chains")
        return [(row[0], row[1], row[2]) for row in rows]

    def add_image(self, row: ImageRow) -> None:
        """Store an image, or change its parent and time."""
        statement = (
            "INSERT INTO images VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET parent = excluded.parent, last_tagged = excluded.last_tagged"
        )
        self._write((statement, (row.id, row.parent, row.last_tagged)))

    def delete_image(self, id: str) -> None:
        """Forget an image and its references."""
        self._write(("DELETE FROM images WHERE id = ?", (id,)))

    def set_reference(self, reference: str, row: ImageRow) -> None:
        """Point a reference to an image, and store when that was."""
        self._write(
            ("UPDATE images SET last_tagged = ? WHERE id = ?", (row.last_tagged, row.id)),
            ("INSERT OR REPLACE INTO image_references VALUES (?, ?)", (reference, row.id)),
        )

    def delete_reference(self, reference: str) -> None:
        """Forget a reference."""
        self._write(("DELETE FROM image_references WHERE reference = ?", (reference,)))

    def add_layer(self, layer: LayerRow, chain_id: str, size: int) -> None:
        """Store a layer and the snapshot it makes; the first blob of a layer stays."""
        values = layer.diff_id, layer.blob, layer.blob_size, layer.plain_size, layer.media_type
        chain = chain_id, layer.diff_id, size
        self._write(
            ("INSERT OR IGNORE INTO image_layers VALUES (?, ?, ?, ?, ?)", values),
            ("INSERT OR REPLACE INTO image_chains VALUES (?, ?, ?)", chain),
        )

    def delete_layer(self, diff_id: str) -> None:
        """Forget a layer."""
        self._write(("DELETE FROM image_layers WHERE diff_id = ?", (diff_id,)))

    def delete_chain(self, chain_id: str) -> None:
        """Forget a snapshot."""
        self._write(("DELETE FROM image_chains WHERE chain_id = ?", (chain_id,)))

    def _rows(self, query: str) -> list[Any]:
        with self._database.transaction() as connection:
            return connection.execute(query).fetchall()

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        with self._database.transaction() as connection:
            for statement, values in statements:
                connection.execute(statement, values)
