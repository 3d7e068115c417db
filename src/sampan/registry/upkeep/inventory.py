"""Compare the files of a registry with what the database says, and make the database right.

The layout is the truth: docker-registry may have written, or an administrator restored it. So this
runs at every start, before anybody is served. What cannot be read is warned about and left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from sampan.errors import InvalidArgument
from sampan.registry import paths
from sampan.registry.content import documents
from sampan.registry.database.metadata import Database, Metadata
from sampan.registry.database.rows import PUT_BLOB, forget_manifest, record_manifest
from sampan.registry.drivers.driver import Survey, size_or_none
from sampan.registry.errors import RegistryError
from sampan.registry.names import ALGORITHMS, NAME_LENGTH, is_tag
from sampan.spec.digest import Digest, algorithm, digest_of, parse_digest
from sampan.spec.image import DOCUMENT_LIMIT

log = logging.getLogger(__name__)
STORED_BY = "sha256"  # what docker-registry calls every blob
# Manifests that were read before, and whose file still has the length that it had.
_KNOWN = """
SELECT repository, digest FROM manifests JOIN blobs USING (digest)
WHERE media_type != '' AND manifests.size = blobs.size
"""


class Adopt(Protocol):
    """Makes a blob that another digest leads to one of its own; see aliases.py."""

    def __call__(self, repository: str, digest: Digest, stored: bool) -> int | None: ...


def take_inventory(driver: Survey, metadata: Metadata, adopt: Adopt) -> list[Digest]:
    """Make the database say what the files say.

    Returns the blobs whose files have another length than they had: no blob changes, so they may
    be damaged, and have to be read.
    """
    now = metadata.now()
    with metadata.change() as database:
        blobs, changed = _blobs(driver, database, now)
        all_folders = list(folders(driver, paths.REPOSITORIES))
        found = [
            n for n, inside in all_folders if paths.LAYERS in inside or paths.MANIFESTS in inside
        ]
        _replace(database, "repositories", "name", {(name,) for name in found})
        links = [(name, d) for name in found for d in linked(driver, paths.layers(name))]
        for name, digest in links:
            if algorithm(digest) != STORED_BY:
                size = adopt(name, digest, digest in blobs)
                if size is not None:
                    database.execute(PUT_BLOB, (digest, size, now))
                    blobs.add(digest)
        _replace(database, "links", "repository, digest", {x for x in links if x[1] in blobs})
        known = set(database.execute(_KNOWN))
        there = {
            (name, digest)
            for name in found
            for digest in linked(driver, paths.revisions(name))
            if digest in blobs
        }
        everything = set(database.execute("SELECT repository, digest FROM manifests"))
        for name, digest in everything - there:
            forget_manifest(database, name, digest)
        _read_manifests(driver, database, sorted(there - known), now)
        manifests = set(database.execute("SELECT repository, digest FROM manifests"))
        tags = {row for row in _tags(driver, found) if (row[0], row[2]) in manifests}
        _replace(database, "tags", "repository, name, digest", tags)
        begun = [name for name, inside in all_folders if paths.UPLOADS in inside]
        _replace(database, "uploads", "repository, upload, size", set(_uploads(driver, begun)))
        # One that we did not know as it is counts as begun just now: somebody may go on with it.
        database.execute("UPDATE uploads SET moment = ? WHERE moment = 0", (now,))
    return changed


def _replace(
    database: Database, table: str, columns: str, wanted: AbstractSet[tuple[str | int, ...]]
) -> None:
    """Make the rows of a table those that are wanted."""
    have = set(database.execute(f"SELECT {columns} FROM {table}"))  # noqa: S608 our own names
    names = columns.split(", ")
    where = " AND ".join(f"{name} = ?" for name in names)
    marks = ", ".join("?" * len(names))
    database.executemany(f"DELETE FROM {table} WHERE {where}", have - wanted)  # noqa: S608
    database.executemany(
        f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608
        wanted - have,
    )


def _blobs(driver: Survey, database: Database, now: float) -> tuple[set[str], list[Digest]]:
    """Make the rows of blobs right; return all that there are, and those that have changed."""
    have = dict(database.execute("SELECT digest, size FROM blobs"))
    found: dict[Digest, int] = {}
    for kind in ALGORITHMS:
        for prefix in driver.list(f"{paths.BLOBS}/{kind}"):
            for digits in driver.list(f"{paths.BLOBS}/{kind}/{prefix}"):
                digest = digest_or_none(f"{kind}:{digits}")
                if digest and digits.startswith(prefix):
                    size = size_or_none(driver, paths.blob(digest))
                    if size is not None:
                        found[digest] = size
    database.executemany("DELETE FROM blobs WHERE digest = ?", [(d,) for d in have.keys() - found])
    # A blob that we did not know counts as promised just now: somebody may be about to use it.
    database.executemany(
        PUT_BLOB,
        [(d, size, now) for d, size in found.items() if have.get(d) != size],
    )
    changed = [digest for digest, size in found.items() if have.get(digest, size) != size]
    return set(found), changed


def _uploads(driver: Survey, names: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Yield the uploads that are not finished, with the bytes that they have."""
    for name in names:
        for key in driver.list(paths.uploads(name)):
            folder = paths.upload(name, key)
            try:
                yield name, key, driver.grown(f"{folder}/data", f"{folder}/startedat")
            except OSError:  # none of ours, or it is being removed
                continue


def upload_folders(driver: Survey) -> Iterator[str]:
    """Yield the repositories that have a folder of uploads."""
    for found, inside in folders(driver, paths.REPOSITORIES):
        if paths.UPLOADS in inside:
            yield found


def folders(driver: Survey, folder: str, name: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield what may be a repository, with what is in its folder.

    Folders that are deeper than any name are nobody's.
    """
    inside = driver.list(folder)
    if name:
        yield name, inside
    for part in inside:
        longer = f"{name}/{part}".lstrip("/")
        if not part.startswith("_") and len(longer) <= NAME_LENGTH and _is_text(part):
            yield from folders(driver, f"{folder}/{part}", longer)


def _is_text(name: str) -> bool:
    """Tell whether a name can be in a database, unlike those that are no UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def linked(driver: Survey, folder: str) -> Iterator[Digest]:
    """Yield the digests that have a link below a folder. The path says it; the link may be torn."""
    for kind in ALGORITHMS:
        for digits in driver.list(f"{folder}/{kind}"):
            digest = digest_or_none(f"{kind}:{digits}")
            if digest and _exists(driver, f"{folder}/{kind}/{digits}/link"):
                yield digest


def _tags(driver: Survey, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    found = [(n, tag) for n in names for tag in driver.list(paths.tags(n)) if is_tag(tag)]
    contents = driver.read_many([paths.tag_current(*tag) for tag in found])
    parsed: dict[bytes, Digest | None] = {}  # many tags say the same
    for (name, tag), content in zip(found, contents, strict=True):
        if content is None:
            continue  # a tag that was being made, or removed
        if content not in parsed:
            parsed[content] = digest_or_none(content.decode("ascii", "replace"))
        digest = parsed[content]
        if digest is None:
            log.warning("tag %s of %s is left out: its link says no digest", tag, name)
        else:
            yield name, tag, digest


def _read_manifests(
    driver: Survey, database: Database, wanted: Sequence[tuple[str, Digest]], now: float
) -> None:
    small = [w for w in wanted if driver.size(paths.blob(w[1])) <= DOCUMENT_LIMIT]
    contents = driver.read_many([paths.blob(digest) for _, digest in small])
    for (name, digest), content in zip(small, contents, strict=True):
        if content is not None:
            read_manifest(database, name, digest, content, now)
    for name, digest in sorted({*wanted} - {*small}):
        _unreadable(database, name, digest, "it is too large", now)


def read_manifest(
    database: Database, name: str, digest: Digest, content: bytes, now: float
) -> None:
    """Write the rows of one manifest, also of one that cannot be read."""
    try:
        if digest_of(content, algorithm(digest)) != digest:
            raise InvalidArgument("its content has another digest")
        parsed = documents.parse_stored(content)
    except (InvalidArgument, RegistryError) as error:
        _unreadable(database, name, digest, error, now)
    else:
        record_manifest(database, name, digest, len(content), parsed, now)


def _unreadable(database: Database, name: str, digest: Digest, reason: object, now: float) -> None:
    # The row stays without a type: nobody can fetch it, and the collector touches nothing
    # in this repository, because nobody knows what the manifest needs.
    log.warning("manifest %s of %s cannot be read: %s", digest, name, reason)
    record_manifest(database, name, digest, 0, documents.UNREADABLE, now)


def digest_or_none(text: str) -> Digest | None:
    """Return a digest; None for what is none."""
    try:
        return parse_digest(text)
    except InvalidArgument:
        return None


def _exists(driver: Survey, path: str) -> bool:
    return size_or_none(driver, path) is not None
