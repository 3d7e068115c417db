"""Pages of repositories and of tags, with what is worth knowing of each. Calls block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from sampan.registry.database.metadata import Metadata
from sampan.registry.errors import RegistryError
from sampan.spec.image import INDEXES

T = TypeVar("T")
COUNT = 50  # rows of a page


@dataclass(frozen=True)
class Repository:
    """A repository in a list."""

    name: str
    tags: int


@dataclass(frozen=True)
class Tag:
    """A tag in a list. `size` is what the parts take; of an index, nothing is known."""

    name: str
    digest: str
    media_type: str
    artifact_type: str
    size: int | None
    is_index: bool
    referrers: int


@dataclass(frozen=True)
class Listing(Generic[T]):
    """A part of a list. `last` is where the next one goes on; empty at the end."""

    rows: list[T]
    last: str


_REPOSITORIES = """
SELECT name, (SELECT count(*) FROM tags WHERE repository = repositories.name)
FROM repositories WHERE name > ? AND (? = '' OR instr(name, ?) > 0) ORDER BY name LIMIT ?
"""
_TAGS = """
SELECT tags.name, tags.digest, media_type, artifact_type,
    (SELECT sum(blobs.size) FROM parts JOIN blobs USING (digest)
        WHERE parts.repository = tags.repository AND parts.manifest = tags.digest),
    (SELECT count(*) FROM manifests AS others
        WHERE others.repository = tags.repository AND others.subject = tags.digest)
FROM tags JOIN manifests ON manifests.repository = tags.repository
    AND manifests.digest = tags.digest
WHERE tags.repository = ? AND tags.name > ? AND (? = '' OR instr(tags.name, ?) > 0)
ORDER BY tags.name LIMIT ?
"""


def repositories(metadata: Metadata, term: str, after: str) -> Listing[Repository]:
    """Return repositories with a term in their names."""
    term = term.lower()
    rows = metadata.rows(_REPOSITORIES, after, term, term, COUNT + 1)
    return _listing([Repository(*row) for row in rows])


def tags(metadata: Metadata, repository: str, term: str, after: str) -> Listing[Tag]:
    """Return tags with a term in their names; raise NAME_UNKNOWN."""
    if not metadata.row("SELECT 1 FROM repositories WHERE name = ?", repository):
        raise RegistryError("NAME_UNKNOWN", {"name": repository})
    found = []
    for name, digest, media_type, kind, size, referrers in metadata.rows(
        _TAGS, repository, after, term, term, COUNT + 1
    ):
        is_index = media_type in INDEXES
        row = (None if is_index or size is None else int(size), is_index, referrers)
        found.append(Tag(name, digest, media_type, kind, *row))
    return _listing(found)


def _listing(found: list[T]) -> Listing[T]:
    rows = found[:COUNT]
    return Listing(rows, str(getattr(rows[-1], "name", "")) if len(found) > COUNT else "")
