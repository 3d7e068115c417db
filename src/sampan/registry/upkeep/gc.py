"""Garbage collection while clients push: what nobody refers to and nobody was promised.

A blob goes if no manifest of any repository names it and it was neither pushed, mounted nor
promised ("it is there") within `delay`. Each step is one change: a push comes before or after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from sampan.registry import paths
from sampan.registry.database.metadata import ALL, Database, DatabaseAway, Metadata
from sampan.registry.database.rows import forget_manifest
from sampan.registry.descriptors.descriptors import Descriptors, NoDescriptors
from sampan.registry.drivers.driver import Change
from sampan.spec.digest import Digest

log = logging.getLogger(__name__)
STEP = 50  # blobs or manifests in one change, so that no push waits for long

# A blob that no manifest is, and no manifest needs; repositories with a manifest that nobody
# can read keep all they have.
_UNUSED_BLOBS = """
SELECT digest, size FROM blobs WHERE touched <= ?1 AND digest > ?2
    AND NOT EXISTS (SELECT 1 FROM parts WHERE parts.digest = blobs.digest)
    AND NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.digest = blobs.digest)
    AND NOT EXISTS (
        SELECT 1 FROM links JOIN manifests USING (repository)
        WHERE links.digest = blobs.digest AND manifests.media_type = '')
ORDER BY digest LIMIT ?3
"""
# Somebody has it, or needs it.
_WANTED = """
SELECT 1 FROM links WHERE digest = ?1 UNION ALL SELECT 1 FROM parts WHERE digest = ?1
UNION ALL SELECT 1 FROM manifests WHERE digest = ?1 LIMIT 1
"""
# What has a tag lives, and so do the parts of a living index and what is attached to the living.
_UNTAGGED = """
WITH RECURSIVE living(digest) AS (
    SELECT digest FROM (
        SELECT digest FROM tags WHERE repository = ?1
        UNION SELECT digest FROM manifests WHERE repository = ?1 AND touched > ?2
    ) AS roots
    UNION SELECT led.digest FROM living JOIN (
        SELECT manifest AS source, digest FROM parts WHERE repository = ?1 AND kind = 'manifest'
        UNION ALL SELECT subject AS source, digest FROM manifests
            WHERE repository = ?1 AND subject IS NOT NULL
    ) AS led ON led.source = living.digest
)
SELECT digest FROM manifests WHERE repository = ?1 AND media_type != ''
    AND digest NOT IN (SELECT digest FROM living) LIMIT ?3
"""


@dataclass
class Collected:
    """What a collection removed, or would."""

    blobs: list[Digest] = field(default_factory=list)
    manifests: list[tuple[str, Digest]] = field(default_factory=list)
    bytes: int = 0


class Bin(Protocol):
    """Where files go that nobody needs: a driver, or nowhere."""

    def delete(self, *groups: Sequence[str], within: Change) -> None:
        """Remove files and folders, one group after the other."""


class Collector:
    """Removes what nobody needs, a few things at a time."""

    def __init__(self, driver: Bin, metadata: Metadata, told: bool = True) -> None:
        """`told`: what is removed is logged."""
        self._driver = driver
        self._metadata = metadata
        self._level = logging.INFO if told else logging.DEBUG
        self.descriptors: Descriptors = NoDescriptors()
        self.look: Callable[[bool], object] = lambda every_tag: None  # at what others wrote
        self.allowed: Callable[[], None] = lambda: None  # raises OSError if others are here too

    def collect(
        self,
        delay: float,
        *,
        untagged: bool = False,
        dry_run: bool = False,
        among: Callable[[str], bool] | None = None,
    ) -> Collected:
        """Remove unused blobs; with `untagged` first the manifests that no tag leads to.

        `among` tells whose blobs: those that another repository has, too, stay.
        Raises OSError where that is not allowed.
        """
        self.allowed()
        if among is None:
            self.look(untagged)
        found = Collected()
        if untagged:
            for (repository,) in self._metadata.rows("SELECT name FROM repositories"):
                while self._untagged(found, repository, delay, dry_run):
                    pass
        after: str | None = ""
        while after is not None:
            after = self._blobs(found, after, delay, dry_run, among)
        return found

    def untagged(self, repository: str, delay: float) -> list[Digest]:
        """Remove the manifests of a repository that no tag leads to; return their digests."""
        found = Collected()
        while self._untagged(found, repository, delay, dry_run=False):
            pass
        return [digest for _, digest in found.manifests]

    def _untagged(self, found: Collected, repository: str, delay: float, dry_run: bool) -> bool:
        """Remove some manifests; tell whether there may be more."""
        with self._metadata.change() as database:
            values = (repository, self._metadata.now() - delay, ALL if dry_run else STEP)
            digests = [Digest(d) for (d,) in database.execute(_UNTAGGED, values)]
            if digests and not dry_run:
                self._forget(database, repository, digests)
        found.manifests += [(repository, digest) for digest in digests]
        return bool(digests) and not dry_run

    def _forget(self, database: Database, repository: str, digests: Sequence[Digest]) -> None:
        """Remove manifests, not what they consist of."""
        for digest in digests:
            forget_manifest(database, repository, digest)
            log.log(self._level, "manifest %s of %s has no tag and is removed", digest, repository)
        folders = [paths.revision_folder(repository, digest) for digest in digests]
        self._delete(database, folders)

    def _blobs(
        self,
        found: Collected,
        after: str,
        delay: float,
        dry_run: bool,
        among: Callable[[str], bool] | None,
    ) -> str | None:
        """Remove some blobs; return where to go on, None at the end."""
        with self._metadata.change() as database:
            rows = database.execute(
                _UNUSED_BLOBS, (self._metadata.now() - delay, after, STEP)
            ).fetchall()
            wanted = [row for row in rows if not among or self._is_among(database, row[0], among)]
            found.blobs += [Digest(digest) for digest, _ in wanted]
            found.bytes += sum(size for _, size in wanted)
            if not dry_run:
                self._remove(database, [Digest(digest) for digest, _ in wanted])
        if wanted and not dry_run:
            self.descriptors.settle()
        return rows[-1][0] if rows else None

    def _is_among(self, database: Database, digest: str, among: Callable[[str], bool]) -> bool:
        query = "SELECT repository FROM links WHERE digest = ?"
        return all(among(name) for (name,) in database.execute(query, (digest,)))

    def _remove(self, database: Database, digests: Sequence[Digest]) -> None:
        """Remove blobs: first the links, so that none is left that leads to nothing."""
        query = "SELECT repository FROM links WHERE digest = ?"
        links = []
        for digest in digests:
            for (name,) in database.execute(query, (digest,)):
                links.append(paths.layer_folder(name, digest))
            database.execute("DELETE FROM links WHERE digest = ?", (digest,))
            database.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
            log.log(self._level, "blob %s is not used and is removed", digest)
        # At once: either all is gone, or nothing, should others have gone on in our place.
        self._delete(database, links, [paths.blob_folder(digest) for digest in digests])

    def release(self, database: Database, repository: str, digests: Sequence[Digest]) -> int:
        """Take from a repository those blobs that none of its manifests needs, within a change.

        Files go that no repository has any more. Returns how many bytes the repository lost.
        """
        lost, links, files = 0, [], []
        for digest in digests:
            query = "SELECT 1 FROM parts WHERE repository = ? AND digest = ?"
            if database.execute(query, (repository, digest)).fetchone():
                continue
            query = "DELETE FROM links WHERE repository = ? AND digest = ?"
            had = bool(database.execute(query, (repository, digest)).rowcount)
            if had:
                links.append(paths.layer_folder(repository, digest))
            row = database.execute("SELECT size FROM blobs WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                continue
            if database.execute(_WANTED, (digest,)).fetchone() is None:
                database.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
                files.append(paths.blob_folder(digest))
                had = True
            lost += row[0] if had else 0
        self._delete(database, links, files)
        return lost

    def _delete(self, database: Database, *groups: Sequence[str]) -> None:
        """Remove files of what has no row any more. What is left is found by the next start.

        A failure must not undo the rows: they would promise files that are gone. Unless they are
        undone already, and others may have promised the files to somebody: then those stay.
        """
        try:
            self._driver.delete(*groups, within=database)
        except DatabaseAway:
            raise
        except OSError as error:
            log.error("%s cannot be removed: %s", " ".join(chain(*groups)), error)
