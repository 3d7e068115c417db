"""The tables of images: names, layers, sizes, leases. Every change is durable before it is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sampan.engine.database import Database
from sampan.engine.images.model import Layer, Name, Source
from sampan.spec.digest import Digest

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY,
    parent TEXT NOT NULL DEFAULT '',
    last_tagged INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS image_references (
    reference TEXT PRIMARY KEY,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    target TEXT NOT NULL DEFAULT ''
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
CREATE TABLE IF NOT EXISTS layer_sources (
    diff_id TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (diff_id, repository, digest)
);
CREATE TABLE IF NOT EXISTS leases (
    key TEXT PRIMARY KEY,
    since INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS awaited_names (
    image TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE
);
"""
Statement = tuple[str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image, without what its configuration says."""

    id: str
    parent: str
    last_tagged: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A layer in its place: the snapshot that it makes on those below it."""

    chain_id: Digest
    diff_id: Digest
    size: int  # bytes of its files


class ImageDatabase:
    """The tables, in the engine's database; may be used from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            _migrate(connection)

    # --- reading ---------------------------------------------------------------------------

    def images(self) -> list[ImageRow]:
        """Return all images."""
        return [ImageRow(*row) for row in self._rows("SELECT id, parent, last_tagged FROM images")]

    def references(self) -> list[tuple[str, Name]]:
        """Return all references and what they stand for."""
        rows = self._rows("SELECT reference, image, target FROM image_references")
        return [(row[0], Name(row[1], Digest(row[2]) if row[2] else None)) for row in rows]

    def layers(self) -> list[Layer]:
        """Return all layers."""
        query = "SELECT diff_id, plain_size, blob, blob_size, media_type FROM image_layers"
        return [
            Layer(Digest(diff_id), plain_size, Digest(blob) if blob else None, size, media_type)
            for diff_id, plain_size, blob, size, media_type in self._rows(query)
        ]

    def chains(self) -> list[Chain]:
        """Return all layers in their places."""
        return [
            Chain(*row) for row in self._rows("SELECT chain_id, diff_id, size FROM image_chains")
        ]

    def sources(self) -> list[tuple[str, Source]]:
        """Return all (diff id, where a compressed form of that layer lies)."""
        rows = self._rows("SELECT diff_id, repository, digest, size, media_type FROM layer_sources")
        return [(row[0], Source(*row[1:])) for row in rows]

    def leases(self) -> dict[str, int]:
        """Return the snapshots that are kept although no image needs them, each with its time."""
        return dict(self._rows("SELECT key, since FROM leases"))

    def awaiting_names(self) -> set[str]:
        """Return the images that were to get a name, or to go with their last one."""
        return {row[0] for row in self._rows("SELECT image FROM awaited_names")}

    # --- images and references -------------------------------------------------------------

    def add_image(
        self, row: ImageRow, leased: Iterable[str] = (), *, awaits_name: bool = False
    ) -> None:
        """Store an image, or change its parent and time; it needs no leases on its layers."""
        self._write(
            (
                "INSERT INTO images VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET parent = excluded.parent, last_tagged = excluded.last_tagged",
                (row.id, row.parent, row.last_tagged),
            ),
            *(_end_lease(key) for key in leased),
            *([_begin_wait(row.id)] if awaits_name else ()),
        )

    def await_no_names(self, images: Iterable[str]) -> None:
        """Let images be whole as they are."""
        self._write(*(_end_wait(image) for image in images))

    def delete_image(self, id: str) -> None:
        """Forget an image and its references."""
        self._write(("DELETE FROM images WHERE id = ?", (id,)))

    def set_reference(
        self, reference: str, name: Name, now: int, named: Collection[str] = ()
    ) -> None:
        """Let a reference stand for something, and note when that was; `named` wait no longer."""
        values = reference, name.image, name.target or ""
        self._write(
            ("UPDATE images SET last_tagged = ? WHERE id = ?", (now, name.image)),
            ("INSERT OR REPLACE INTO image_references VALUES (?, ?, ?)", values),
            *(_end_wait(image) for image in named),
        )

    def move_reference(self, reference: str, name: Name) -> None:
        """Let a reference stand for something else, without noting a time."""
        values = reference, name.image, name.target or ""
        self._write(("INSERT OR REPLACE INTO image_references VALUES (?, ?, ?)", values))

    def delete_references(self, references: Iterable[str], going: Iterable[str] = ()) -> None:
        """Forget references, and note that these images are to go with them."""
        self._write(
            *(("DELETE FROM image_references WHERE reference = ?", (it,)) for it in references),
            *(_begin_wait(image) for image in going),
        )

    # --- layers ----------------------------------------------------------------------------

    def add_layer(self, layer: Layer, chain: Chain, leased: int | None) -> None:
        """Store a layer and its place; with `leased`, a time, also a lease on that place.

        An archive that is kept already stays the archive of this layer.
        """
        statements = [
            _layer_statement(layer),
            (
                "INSERT OR REPLACE INTO image_chains VALUES (?, ?, ?)",
                (chain.chain_id, chain.diff_id, chain.size),
            ),
        ]
        if leased is not None:
            statements.append(_lease(chain.chain_id, leased))
        self._write(*statements)

    def keep_archive(self, layer: Layer) -> None:
        """Store that the archive of a layer is kept, unless another one is."""
        self._write(_layer_statement(layer))

    def forget_archive(self, diff_id: str) -> None:
        """Store that the archive of a layer is gone."""
        statement = "UPDATE image_layers SET blob = '', blob_size = 0, media_type = ''"
        self._write((f"{statement} WHERE diff_id = ?", (diff_id,)))

    def delete_layer(self, diff_id: str) -> None:
        """Forget a layer and where it came from."""
        self._write(
            ("DELETE FROM image_layers WHERE diff_id = ?", (diff_id,)),
            ("DELETE FROM layer_sources WHERE diff_id = ?", (diff_id,)),
        )

    def delete_chain(self, chain_id: str) -> None:
        """Forget the place of a layer, and the lease on it."""
        self._write(
            ("DELETE FROM image_chains WHERE chain_id = ?", (chain_id,)), _end_lease(chain_id)
        )

    def add_source(self, diff_id: str, source: Source) -> None:
        """Note where a compressed form of a layer lies."""
        values = diff_id, source.repository, source.digest, source.size, source.media_type
        self._write(("INSERT OR REPLACE INTO layer_sources VALUES (?, ?, ?, ?, ?)", values))

    def delete_source(self, diff_id: str, source: Source) -> None:
        """Forget where a compressed form of a layer lay."""
        statement = "DELETE FROM layer_sources WHERE diff_id = ? AND repository = ? AND digest = ?"
        self._write((statement, (diff_id, source.repository, source.digest)))

    # --- leases ----------------------------------------------------------------------------

    def lease(self, key: str, since: int) -> None:
        """Keep a snapshot although no image needs it, counted from now on."""
        self._write(_lease(key, since))

    def end_leases(self, keys: Iterable[str]) -> None:
        """Keep snapshots no longer."""
        self._write(*(_end_lease(key) for key in keys))

    def _rows(self, query: str) -> list[Any]:
        with self._database.transaction() as connection:
            return connection.execute(query).fetchall()

    def _write(self, *statements: Statement) -> None:
        with self._database.transaction() as connection:
            for statement, values in statements:
                connection.execute(statement, values)


def _layer_statement(layer: Layer) -> Statement:
    return (
        "INSERT INTO image_layers (diff_id, plain_size, blob, blob_size, media_type)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (diff_id) DO UPDATE SET"
        " blob = excluded.blob, blob_size = excluded.blob_size, media_type = excluded.media_type"
        " WHERE blob = ''",
        (layer.diff_id, layer.plain_size, layer.blob or "", layer.blob_size, layer.media_type),
    )


def _lease(key: str, since: int) -> Statement:
    return "INSERT OR REPLACE INTO leases VALUES (?, ?)", (key, since)


def _end_lease(key: str) -> Statement:
    return "DELETE FROM leases WHERE key = ?", (key,)


def _begin_wait(image: str) -> Statement:
    return "INSERT OR REPLACE INTO awaited_names VALUES (?)", (image,)


def _end_wait(image: str) -> Statement:
    return "DELETE FROM awaited_names WHERE image = ?", (image,)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables of an older engine up to date.

    Version 1 had no targets, and kept an archive of every layer: those stay until their layer
    goes, because the snapshots of that version cannot give the archive again.
    """
    columns = {row[1] for row in connection.execute("PRAGMA table_info (image_references)")}
    if "target" not in columns:
        connection.execute(
            "ALTER TABLE image_references ADD COLUMN target TEXT NOT NULL DEFAULT ''"
        )
