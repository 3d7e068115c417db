"""What a docker-registry that works beside us has pushed or deleted: noticed while we run.

What no row knows is looked for in the files before anybody is told that it is not there, so who
finds a row waits for nothing. What has moved or is gone is found by comparing lists of names, from
time to time and before each collection. What somebody is just writing is never believed: rows
stay as they are until it is whole.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from sampan.registry import paths
from sampan.registry.database.metadata import Database, Metadata
from sampan.registry.database.rows import PUT_BLOB, forget_manifest, record_link
from sampan.registry.drivers.driver import Driver, Survey, read_or_none, size_or_none
from sampan.registry.errors import RegistryError
from sampan.registry.names import is_tag
from sampan.registry.upkeep.inventory import digest_or_none, folders, linked, read_manifest
from sampan.spec.digest import Digest, algorithm, digest_of
from sampan.spec.image import DOCUMENT_LIMIT

log = logging.getLogger(__name__)
QUIET_SECONDS = 1.0  # in which a repository where nothing was new is not compared again
REMEMBERED = 10_000  # repositories, or paths
# Its age is that of its file, as after a loss of the rows.
_PUT_TAG = """
INSERT INTO tags (repository, name, digest) VALUES (?, ?, ?) ON CONFLICT (repository, name)
    DO UPDATE SET digest = excluded.digest, moved = 0
"""


class Beside:
    """Makes rows right where others have written. Calls block."""

    def __init__(self, driver: Driver, metadata: Metadata) -> None:
        self._driver = driver
        self._metadata = metadata
        self._lock = threading.Lock()
        self._quiet: dict[str, float] = {}
        self._disowned: set[str] = set()

    # --- what no row knows

    def find_repository(self, repository: str) -> bool:
        """Look for the tags of a repository."""
        return bool(self._driver.list(paths.tags(repository))) and self._update(repository)

    def find_manifest(self, repository: str, reference: str) -> bool:
        """Look for a tag, or a manifest by its digest."""
        if ":" in reference:
            link = paths.revision_link(repository, Digest(reference))
        else:
            link = paths.tag_current(repository, reference)
        return self._is_there(link) and self._update(repository)

    def find_blob(self, repository: str, digest: Digest) -> bool:
        """Look for a blob."""
        link = paths.layer_link(repository, digest)
        if not self._is_there(link):
            return False
        with self._metadata.change() as database:
            return self._is_there(link) and self._take_blob(database, repository, digest)

    def _is_there(self, link: str) -> bool:
        with self._lock:
            if link in self._disowned:
                return False
        folder, _, name = link.rpartition("/")
        return name in self._driver.list(folder)  # one request, also where there is nothing

    def _update(self, repository: str) -> bool:
        """Make the rows of a repository right, unless that was just of no use."""
        with self._lock:
            if self._quiet.get(repository, 0.0) > time.monotonic():
                return True
        if not self._compared(repository):
            with self._lock:
                if len(self._quiet) >= REMEMBERED:
                    self._quiet.clear()
                self._quiet[repository] = time.monotonic() + QUIET_SECONDS
        return True

    # --- what a failed change of ours has left

    @contextmanager
    def publishing(self, paths: Sequence[str]) -> Iterator[None]:
        """Give files their names; if that fails, what is there was acknowledged to nobody."""
        try:
            yield
        except RegistryError:  # it was refused before
            raise
        except BaseException:
            with self._lock:
                if len(self._disowned) < REMEMBERED:
                    self._disowned.update(paths)
            raise
        if self._disowned:
            with self._lock:
                self._disowned.difference_update(paths)

    # --- what is otherwise

    def look(self, every_tag: bool = False) -> int:
        """Compare all repositories with their rows; return in how many something was new.

        With `every_tag` also where each tag points to, which is read from as many files. A tag that
        moved to a manifest that is new is found without it.
        """
        survey = self._driver.survey(paths.REPOSITORIES)
        tags, manifests = self._rows()
        there = [
            n for n, within in folders(survey, paths.REPOSITORIES) if paths.MANIFESTS in within
        ]
        suspects = [
            name
            for name in sorted({*there, *tags, *manifests})
            if self._differs(survey, name, tags.get(name, {}), manifests.get(name, set()))
            or (every_tag and self._moved(name, tags.get(name, {})))
        ]
        return sum(self._compared(name) for name in suspects)

    def _rows(self) -> tuple[dict[str, dict[str, str]], dict[str, set[str]]]:
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        for name, tag, digest in self._metadata.rows("SELECT repository, name, digest FROM tags"):
            tags[name][tag] = digest
        manifests: dict[str, set[str]] = defaultdict(set)
        for name, digest in self._metadata.rows("SELECT repository, digest FROM manifests"):
            manifests[name].add(digest)
        return tags, manifests

    def _differs(
        self, survey: Survey, name: str, tags: dict[str, str], manifests: set[str]
    ) -> bool:
        """Tell whether there are other tags or manifests than rows say."""
        if set(filter(is_tag, survey.list(paths.tags(name)))) != tags.keys():
            return True
        return set(linked(survey, paths.revisions(name))) != manifests

    def _moved(self, name: str, tags: dict[str, str]) -> bool:
        """Tell whether a tag points elsewhere."""
        links = [paths.tag_current(name, tag) for tag in tags]
        contents = self._driver.read_many(links)
        return any(
            content is not None and _said(content) not in (None, known)
            for content, known in zip(contents, tags.values(), strict=True)
        )

    def _compared(self, name: str) -> bool:
        """Make the rows of a repository right; tell whether anything was new."""
        with self._metadata.change() as database:
            survey = self._driver.survey(paths.repository(name))
            changes = self._compare_blobs(database, survey, name)
            changes += self._compare_manifests(database, survey, name)
            changes += self._compare_tags(database, survey, name)
        if changes:
            log.info("%d things in %s are as others have written them", changes, name)
        return bool(changes)

    def _compare_blobs(self, database: Database, survey: Survey, name: str) -> int:
        query = "SELECT digest FROM links WHERE repository = ?"
        known = {Digest(digest) for (digest,) in database.execute(query, (name,))}
        there = set(linked(survey, paths.layers(name)))
        new, gone = self._differences(known, there, partial(paths.layer_link, name))
        query = "DELETE FROM links WHERE repository = ? AND digest = ?"
        database.executemany(query, [(name, digest) for digest in gone])
        return sum(self._take_blob(database, name, digest) for digest in new) + len(gone)

    def _differences(
        self, known: set[Digest], there: set[Digest], link: Callable[[Digest], str]
    ) -> tuple[list[Digest], list[Digest]]:
        """Return what is new and what is gone, after a look at each link itself."""
        new = [digest for digest in there - known if self._is_there(link(digest))]
        gone = [digest for digest in known - there if self._is_gone(link(digest))]
        return new, gone

    def _take_blob(self, database: Database, name: str, digest: Digest) -> bool:
        """Write the rows of a blob whose link is there, if the blob is; tell whether it is.

        docker-registry gives a blob its name when all of it is verified and written.
        """
        size = size_or_none(self._driver, paths.blob(digest))
        if size is None:
            return False
        database.execute(PUT_BLOB, (digest, size, self._metadata.now()))
        record_link(database, name, digest)
        return True

    def _compare_manifests(self, database: Database, survey: Survey, name: str) -> int:
        query = "SELECT digest FROM manifests WHERE repository = ?"
        known = {Digest(digest) for (digest,) in database.execute(query, (name,))}
        there = set(linked(survey, paths.revisions(name)))
        new, gone = self._differences(known, there, partial(paths.revision_link, name))
        for digest in gone:
            forget_manifest(database, name, digest)
        return sum(self._take_manifest(database, name, digest) for digest in new) + len(gone)

    def _take_manifest(self, database: Database, name: str, digest: Digest) -> bool:
        """Write the rows of a manifest, if it is there whole; tell whether it is."""
        size = size_or_none(self._driver, paths.blob(digest))
        if size is None or size > DOCUMENT_LIMIT:
            return False
        content = read_or_none(self._driver, paths.blob(digest))
        if content is None or digest_of(content, algorithm(digest)) != digest:
            return False  # it is being written
        now = self._metadata.now()
        database.execute(PUT_BLOB, (digest, len(content), now))
        read_manifest(database, name, digest, content, now)
        return True

    def _compare_tags(self, database: Database, survey: Survey, name: str) -> int:
        query = "SELECT name, digest FROM tags WHERE repository = ?"
        known = dict(database.execute(query, (name,)))
        query = "SELECT digest FROM manifests WHERE repository = ?"
        manifests = {digest for (digest,) in database.execute(query, (name,))}
        there = [tag for tag in survey.list(paths.tags(name)) if is_tag(tag)]
        links = [paths.tag_current(name, tag) for tag in there]
        moved = []
        for tag, link, content in zip(there, links, self._driver.read_many(links), strict=True):
            said = _said(content or b"")  # one that is just being written says nothing
            if said in manifests and said != known.get(tag) and link not in self._disowned:
                moved.append((name, tag, said))
        gone = [
            (name, tag)
            for tag in known.keys() - set(there)
            if self._is_gone(paths.tag_current(name, tag))
        ]
        database.executemany(_PUT_TAG, moved)
        database.executemany("DELETE FROM tags WHERE repository = ? AND name = ?", gone)
        return len(moved) + len(gone)

    def _is_gone(self, link: str) -> bool:
        """Tell for sure: a list may lag behind what it lists."""
        return size_or_none(self._driver, link) is None


def _said(content: bytes) -> Digest | None:
    return digest_or_none(content.decode("ascii", "replace"))
