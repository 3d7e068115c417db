"""Blobs: who has them, reading them, giving them to another repository, removing them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sampan.registry import paths
from sampan.registry.content.damage import Damage
from sampan.registry.content.fullness import UnlessFull
from sampan.registry.content.others import NoOthers, Others
from sampan.registry.content.quotas import Quotas
from sampan.registry.content.unfinished import forget_upload
from sampan.registry.database.metadata import Database, Metadata, Row
from sampan.registry.database.rows import PUT_BLOB, record_link
from sampan.registry.descriptors.descriptors import Descriptors, NoDescriptors
from sampan.registry.drivers.driver import Content, Driver, File, Staged
from sampan.registry.errors import RegistryError
from sampan.registry.redirects.addresses import Addresses
from sampan.spec.digest import Digest

TOUCH_SECONDS = 30  # a promise that is younger is not written again


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob of a repository."""

    digest: Digest
    size: int


class Blobs:
    """The blobs of all repositories. A repository has a blob if it has a link to it."""

    def __init__(self, driver: Driver, metadata: Metadata, quotas: Quotas) -> None:
        self._driver = driver
        self.addresses = Addresses(driver.url)
        self.descriptors: Descriptors = NoDescriptors()
        self.others: Others = NoOthers()
        self._metadata = metadata
        self._quotas = quotas
        self._damage = Damage()

    def find(self, repository: str, digest: Digest) -> Blob:
        """Return a blob of a repository, and promise that no collection takes it for a while.

        Raises BLOB_UNKNOWN. A client that is told "it is there" will not send it again.
        """
        row = self._known(repository, digest)
        if row is None and self.others.find_blob(repository, digest):
            row = self._known(repository, digest)
        if row is None:
            raise RegistryError("BLOB_UNKNOWN", digest)
        if abs(self._metadata.now() - row[1]) > TOUCH_SECONDS:
            with UnlessFull("a promise is not noted"):
                self._promise(digest)
        return Blob(digest, row[0])

    def _known(self, repository: str, digest: Digest) -> Row | None:
        return self._metadata.row(
            "SELECT size, touched FROM links JOIN blobs USING (digest)"
            " WHERE repository = ? AND digest = ?",
            repository,
            digest,
        )

    def _promise(self, digest: Digest) -> None:
        with self._metadata.change() as database:
            done = database.execute(
                "UPDATE blobs SET touched = ? WHERE digest = ?", (self._metadata.now(), digest)
            )
            if not done.rowcount:  # it was collected between the look and now
                raise RegistryError("BLOB_UNKNOWN", digest)

    def open(self, repository: str, digest: Digest) -> Content:
        """Open a blob to read. Raises BLOB_UNKNOWN, also for one whose file is not whole."""
        blob = self.find(repository, digest)
        try:
            content = self._driver.open(paths.blob(digest))
        except FileNotFoundError:
            self._damage.found(repository, digest, None, blob.size)
            raise RegistryError("BLOB_UNKNOWN", digest) from None
        if content.size != blob.size:
            content.close()
            self._damage.found(repository, digest, content.size, blob.size)
            raise RegistryError(
                "UNAVAILABLE", {"digest": digest}, message="the blob's file has another length"
            )
        return content

    def look(self, repository: str, digest: Digest) -> Content:
        """Open a blob for somebody who asks whether it is there. Raises BLOB_UNKNOWN.

        A damaged one is not: whoever has it sends it then, and mends it.
        """
        try:
            return self.open(repository, digest)
        except RegistryError as error:
            if error.items[0].code != "UNAVAILABLE":
                raise
            raise RegistryError("BLOB_UNKNOWN", digest) from None

    def url(self, repository: str, digest: Digest, client: str) -> str:
        """Return where a client gets a blob by itself; empty: only here. Raises BLOB_UNKNOWN."""
        found = self.find(repository, digest)
        return self.addresses.url(paths.blob(found.digest), "GET", client)

    def mount(
        self, repository: str, digest: Digest, source: str, may_read: Callable[[str], bool]
    ) -> bool:
        """Give a repository a blob of another one; without `source`, of any that has it.

        Not one whose file is damaged: whoever has it sends it then, and mends it.
        """
        query = "SELECT size FROM blobs WHERE digest = ?"
        known = self._metadata.row(query, digest)
        if known is None and source and self.others.find_blob(source, digest):
            known = self._metadata.row(query, digest)
        if known is None or not self._is_whole(paths.blob(digest), known[0]):
            return False
        with self._staged_link(repository, digest) as staged:
            with self._publishing(repository, digest), self._metadata.change() as database:
                query = "SELECT repository FROM links WHERE digest = ?"
                holders = [name for (name,) in database.execute(query, (digest,))]
                if not any(may_read(name) for name in holders if source in ("", name)):
                    return False
                query = "SELECT size FROM blobs WHERE digest = ?"
                row = database.execute(query, (digest,)).fetchone()
                if row is None:  # its file was damaged and is away
                    return False
                self._quotas.admit(database, repository, digest, row[0])
                self._link(database, staged, repository, digest)
            staged.settle()
        self.descriptors.tell(repository, digest)
        return True

    def _publishing(self, repository: str, digest: Digest) -> AbstractContextManager[None]:
        return self.others.publishing([paths.layer_link(repository, digest)])

    def _staged_link(self, repository: str, digest: Digest) -> Staged:
        link = paths.layer_link(repository, digest)
        return self._driver.stage([File(link, digest.encode(), told=True)])

    def _link(self, database: Database, staged: Staged, repository: str, digest: Digest) -> None:
        """Say that a repository has a blob, which is there."""
        staged.publish()
        record_link(database, repository, digest)
        database.execute(
            "UPDATE blobs SET touched = ? WHERE digest = ?", (self._metadata.now(), digest)
        )

    def accept(self, repository: str, digest: Digest, size: int, upload: str, version: str) -> None:
        """Make a verified, synced upload of this version the blob of a digest, and a repository's.

        What was set aside for it becomes the blob's, in one change.
        """
        target = paths.blob(digest)
        uploaded = f"{paths.upload(repository, upload)}/data"
        counts = self._quotas.count_uploads(repository)
        with (
            self._staged_link(repository, digest) as staged,
            self._driver.move(uploaded, target, version) as moved,
        ):
            moved.prepare()
            with self._publishing(repository, digest), self._metadata.change() as database:
                known = database.execute("SELECT size FROM blobs WHERE digest = ?", (digest,))
                row = known.fetchone()
                if counts:
                    forget_upload(database, repository, upload)
                self._quotas.admit(database, repository, digest, size)
                is_kept = row is not None and row[0] == size and self._is_whole(target, size)
                if not is_kept or self._driver.moves_cheaply:  # which mends what has other bytes
                    moved.publish()
                    database.execute(PUT_BLOB, (digest, size, self._metadata.now()))
                self._link(database, staged, repository, digest)
            # Others may see it already; who is told of it is told after this.
            staged.settle([target])
        self._damage.mended(digest)
        self.descriptors.tell(repository, digest)

    def _is_whole(self, path: str, size: int) -> bool:
        try:
            return self._driver.size(path) == size
        except FileNotFoundError:
            return False

    def remove(self, repository: str, digest: Digest) -> None:
        """Take a blob from a repository; the collection removes the file when nobody needs it."""
        with self._metadata.change() as database:
            gone = database.execute(
                "DELETE FROM links WHERE repository = ? AND digest = ?", (repository, digest)
            )
            if not gone.rowcount:
                raise RegistryError("BLOB_UNKNOWN", digest)
            self._driver.delete([paths.layer_folder(repository, digest)], within=database)
        self.descriptors.settle()
