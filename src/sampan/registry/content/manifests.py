"""Manifests and indexes: put, get, remove; and the tags that a put moves with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sampan.registry import names, paths
from sampan.registry.conditions import ALWAYS, Condition
from sampan.registry.content import documents
from sampan.registry.content.blobs import TOUCH_SECONDS
from sampan.registry.content.damage import Damage
from sampan.registry.content.fullness import UnlessFull
from sampan.registry.content.others import NoOthers, Others
from sampan.registry.content.quotas import Quotas
from sampan.registry.database.metadata import Database, Metadata, Row
from sampan.registry.database.rows import PUT_BLOB, forget_manifest, record_manifest
from sampan.registry.descriptors.descriptors import Descriptors, NoDescriptors
from sampan.registry.drivers.driver import Driver, File
from sampan.registry.errors import Item, RegistryError
from sampan.spec.digest import Digest, algorithm, digest_of

# Who was stopped for so long between the look at a manifest's parts and its end may count as dead
# for others on the same bucket, who have collected the parts: then it is not acknowledged.
LATE_SECONDS = 60.0
NAMED = 100  # missing parts that an error names at most


@dataclass(frozen=True, slots=True)
class Stored:
    """One manifest, as it was pushed."""

    digest: Digest
    media_type: str
    size: int
    subject: Digest | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a client expects a reference to mean when it changes something."""

    reference: str
    condition: Condition


class Manifests:
    """The manifests of all repositories."""

    def __init__(
        self,
        driver: Driver,
        metadata: Metadata,
        validation: documents.Validation,
        quotas: Quotas,
    ) -> None:
        self._quotas = quotas
        self._driver = driver
        self._metadata = metadata
        self._validation = validation
        self._damage = Damage()
        self.descriptors: Descriptors = NoDescriptors()
        self.others: Others = NoOthers()

    def find(self, repository: str, reference: str) -> Stored:
        """Return what a tag or a digest means in a repository; raise MANIFEST_UNKNOWN."""
        row = self._known(repository, reference)
        if row is None and self.others.find_manifest(repository, reference):
            row = self._known(repository, reference)
        if row is None:
            detail = {"name": repository, "reference": reference[:256]}
            raise RegistryError("MANIFEST_UNKNOWN", detail)
        if abs(self._metadata.now() - row[4]) > TOUCH_SECONDS:
            with UnlessFull("a promise is not noted"):
                self._promise(repository, row[0])
        return Stored(*row[:4])

    def _known(self, repository: str, reference: str) -> Row | None:
        digest = reference
        if ":" in reference:
            names.digest(reference)
        else:
            row = self._metadata.row(
                "SELECT digest FROM tags WHERE repository = ? AND name = ?", repository, reference
            )
            digest = row[0] if row else ""
        return self._metadata.row(
            "SELECT digest, media_type, size, subject, touched FROM manifests"
            " WHERE repository = ? AND digest = ? AND media_type != ''",
            repository,
            digest,
        )

    def _promise(self, repository: str, digest: str) -> None:
        """Keep a manifest from collections for a while: an index may be about to name it."""
        with self._metadata.change() as database:
            done = database.execute(
                "UPDATE manifests SET touched = ? WHERE repository = ? AND digest = ?",
                (self._metadata.now(), repository, digest),
            )
            if not done.rowcount:
                raise RegistryError("MANIFEST_UNKNOWN", {"digest": digest})

    def read(self, repository: str, reference: str) -> tuple[Stored, bytes]:
        """Return a manifest with its content."""
        stored = self.find(repository, reference)
        try:
            content = self._driver.read(paths.blob(stored.digest))
        except FileNotFoundError:
            self._damage.found(repository, stored.digest, None, stored.size)
            raise RegistryError("MANIFEST_UNKNOWN", {"digest": stored.digest}) from None
        if len(content) != stored.size:
            self._damage.found(repository, stored.digest, len(content), stored.size)
            raise RegistryError(
                "UNAVAILABLE", {"digest": stored.digest}, message="the manifest's file is not whole"
            )
        return stored, content

    def put(
        self,
        repository: str,
        reference: str,
        media_type: str,
        content: bytes,
        more_tags: Sequence[str] = (),
        condition: Condition = ALWAYS,
    ) -> Stored:
        """Store a manifest under a digest, or a digest that is computed and a tag.

        The condition is about what the reference means until then. Raises DIGEST_INVALID,
        MANIFEST_INVALID, and MANIFEST_BLOB_UNKNOWN with all that is missing.
        """
        tags = [names.tag(tag) for tag in more_tags]
        kind = "sha256"
        if ":" in reference:
            kind = algorithm(names.digest(reference))
        else:
            tags.append(names.tag(reference))
        digest = digest_of(content, kind)
        if ":" in reference and digest != reference:
            raise RegistryError("DIGEST_INVALID", {"digest": reference, "received": digest})
        parsed = documents.parse(content, media_type, self._validation)
        expected = Expected(reference, condition)
        return self._store(repository, digest, content, tags, parsed, expected)

    def keep(
        self, repository: str, digest: Digest, media_type: str, content: bytes, tag: str = ""
    ) -> Stored:
        """Store a verified manifest of another registry; its parts may come later.

        Quotas count it and do not refuse it: a cache makes room for what is larger.

        Raises MANIFEST_INVALID.
        """
        parsed = documents.parse(content, media_type, documents.ANYTHING)
        tags = [names.tag(tag)] if tag else []
        return self._store(repository, digest, content, tags, parsed, None)

    def _store(
        self,
        repository: str,
        digest: Digest,
        content: bytes,
        tags: Sequence[str],
        parsed: documents.Parts,
        expected: Expected | None,
    ) -> Stored:
        """Store a manifest; with `expected`, only if that, its parts and its room are there."""
        files = self._files(repository, digest, content, tags)
        published = self.others.publishing([file.path for file in files])
        begun = time.monotonic()
        with self._driver.stage(files) as staged:
            with published, self._metadata.change() as database:
                lost: list[File] = []
                if expected:
                    expected.condition.demand(_meant(database, repository, expected.reference))
                    lost = self._demand(database, repository, parsed)
                    self._quotas.admit(database, repository, digest, len(content))
                    self._quotas.admit_tags(database, repository, tags)
                database.confirm()
                if lost:
                    self._write_again(lost)
                staged.publish()
                now = self._metadata.now()
                database.execute(PUT_BLOB, (digest, len(content), now))
                record_manifest(database, repository, digest, len(content), parsed, now)
                database.executemany(
                    "INSERT INTO tags VALUES (?, ?, ?, ?) ON CONFLICT (repository, name)"
                    " DO UPDATE SET digest = excluded.digest, moved = excluded.moved",
                    [(repository, tag, digest, now) for tag in tags],
                )
            # Others may see it already; who pushed it is told after this.
            staged.settle()
        if expected and time.monotonic() - begun > LATE_SECONDS:
            with self._metadata.change() as database:
                self._demand(database, repository, parsed)
        self._damage.mended(digest)
        self.descriptors.tell("", digest)
        return Stored(digest, parsed.media_type, len(content), parsed.subject)

    def _files(
        self, repository: str, digest: Digest, content: bytes, tags: Sequence[str]
    ) -> list[File]:
        """Return what is to be written, in the order in which it must come to be there."""
        told = digest.encode()
        revision = paths.revision_link(repository, digest)
        files = [File(paths.blob(digest), content), File(revision, told, told=True)]
        for tag in tags:
            files.append(File(paths.tag_index(repository, tag, digest), told, told=True))
            files.append(File(paths.tag_current(repository, tag), told))
        return files

    def remove(self, repository: str, digest: Digest, condition: Condition = ALWAYS) -> list[str]:
        """Remove a manifest and the tags that point to it, which are returned."""
        with self._metadata.change() as database:
            known = "SELECT 1 FROM manifests WHERE repository = ? AND digest = ?"
            if not database.execute(known, (repository, digest)).fetchone():
                raise RegistryError("MANIFEST_UNKNOWN", {"digest": digest})
            condition.demand(digest)
            query = "SELECT name FROM tags WHERE repository = ? AND digest = ?"
            tags = [tag for (tag,) in database.execute(query, (repository, digest))]
            # The tags go first: whatever stops us, none is left that leads to nothing.
            links = [paths.tag(repository, tag) for tag in tags]
            folder = paths.revision_folder(repository, digest)
            self._driver.delete(links, [folder], within=database)
            forget_manifest(database, repository, digest)
        return tags

    def untag(self, repository: str, tag: str, condition: Condition = ALWAYS) -> Digest:
        """Remove a tag, not the manifest, and return what it pointed to."""
        with self._metadata.change() as database:
            digest = _meant(database, repository, tag)
            if not digest:
                raise RegistryError("MANIFEST_UNKNOWN", {"name": repository, "tag": tag})
            condition.demand(digest)
            self._driver.delete([paths.tag(repository, tag)], within=database)
            database.execute(
                "DELETE FROM tags WHERE repository = ? AND name = ?", (repository, tag)
            )
            return Digest(digest)

    def _write_again(self, links: Sequence[File]) -> None:
        with self._driver.stage(links) as staged:
            staged.publish()
            staged.settle()

    def _demand(self, database: Database, repository: str, parsed: documents.Parts) -> list[File]:
        """Raise MANIFEST_BLOB_UNKNOWN if something is missing that has to be there.

        Rows are not enough: a removal whose rows came back, because it was killed or the disk was
        full, has removed the files. Returns links that are lost so: rows say that what they lead
        to is there, clients were told so, and the next start believes the files.
        """
        known: dict[Digest, int | None] = {}
        links: dict[str, Digest] = {}
        may_be_there = True
        kinds = (
            (parsed.blobs, "links", self.others.find_blob, paths.layer_link),
            (parsed.manifests, "manifests", self.others.find_manifest, paths.revision_link),
        )
        for parts, table, look, link in kinds:
            query = (
                f"SELECT blobs.size FROM {table} JOIN blobs USING (digest)"  # noqa: S608
                " WHERE repository = ? AND digest = ?"
            )
            for digest, demanded in parts.items():
                if demanded:
                    row = database.execute(query, (repository, digest)).fetchone()
                    if row is None and may_be_there:  # what is refused anyway is looked for once
                        look(repository, digest)
                        row = database.execute(query, (repository, digest)).fetchone()
                        may_be_there = row is not None
                    known[digest] = row[0] if row else None
                    links[link(repository, digest)] = digest
        lost: list[File] = []
        missing = [digest for digest, size in known.items() if size is None]
        if not missing:  # else a storage far away would be asked of 40,000 that nobody has
            found = iter(self._driver.sizes([*map(paths.blob, known), *links]))
            missing = [digest for digest in known if next(found) != known[digest]]
            lost = [
                File(path, digest.encode(), told=True)
                for path, digest in links.items()
                if next(found) is None
            ]
        if missing:
            first, *rest = [Item("MANIFEST_BLOB_UNKNOWN", digest) for digest in missing[:NAMED]]
            raise RegistryError(first.code, first.detail, more=rest)
        return lost


def _meant(database: Database, repository: str, reference: str) -> str:
    """Return the digest that a tag or a digest means in a repository; empty for none."""
    query = "SELECT digest FROM tags WHERE repository = ? AND name = ?"
    if ":" in reference:
        query = (
            "SELECT digest FROM manifests WHERE repository = ? AND digest = ? AND media_type != ''"
        )
    row = database.execute(query, (repository, reference)).fetchone()
    return str(row[0]) if row else ""
