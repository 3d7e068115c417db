"""Rows of blobs and manifests: what a push writes, and what the inventory does at the start."""

from __future__ import annotations

import msgspec

from sampan.registry.content.documents import Parts
from sampan.registry.database.metadata import Database
from sampan.spec.digest import Digest

PUT_BLOB = (
    "INSERT INTO blobs VALUES (?, ?, ?) ON CONFLICT (digest)"
    " DO UPDATE SET size = excluded.size, touched = excluded.touched"
)


def record_link(database: Database, name: str, digest: Digest) -> None:
    """Write that a repository has a blob."""
    database.execute("INSERT INTO repositories VALUES (?) ON CONFLICT DO NOTHING", (name,))
    database.execute("INSERT INTO links VALUES (?, ?) ON CONFLICT DO NOTHING", (name, digest))


def record_manifest(
    database: Database, name: str, digest: Digest, size: int, parsed: Parts, now: float
) -> None:
    """Write the rows of one manifest, which is promised from `now` on."""
    annotations = msgspec.json.encode(parsed.annotations).decode() if parsed.annotations else None
    database.execute("INSERT INTO repositories VALUES (?) ON CONFLICT DO NOTHING", (name,))
    database.execute(
        "INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (repository, digest) DO UPDATE SET media_type = excluded.media_type,"
        " size = excluded.size, subject = excluded.subject,"
        " artifact_type = excluded.artifact_type, annotations = excluded.annotations,"
        " touched = excluded.touched",
        (
            *(name, digest, parsed.media_type, size, parsed.subject),
            *(parsed.artifact_type, annotations, now),
        ),
    )
    database.execute("DELETE FROM parts WHERE repository = ? AND manifest = ?", (name, digest))
    rows = [(name, digest, part, "blob") for part in parsed.blobs]
    rows += [(name, digest, part, "manifest") for part in parsed.manifests]
    database.executemany("INSERT INTO parts VALUES (?, ?, ?, ?)", rows)


def forget_manifest(database: Database, name: str, digest: str) -> None:
    """Remove the rows of one manifest."""
    database.execute("DELETE FROM tags WHERE repository = ? AND digest = ?", (name, digest))
    database.execute("DELETE FROM parts WHERE repository = ? AND manifest = ?", (name, digest))
    database.execute("DELETE FROM manifests WHERE repository = ? AND digest = ?", (name, digest))
