"""A registry as a library: its parts on one storage. Everything here blocks; call it in threads."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sampan.errors import Conflict, InvalidArgument, Unavailable
from sampan.registry import paths
from sampan.registry.content import documents
from sampan.registry.content.aliases import Aliases
from sampan.registry.content.blobs import Blobs
from sampan.registry.content.manifests import Manifests
from sampan.registry.content.quotas import Quotas
from sampan.registry.content.unfinished import Unfinished
from sampan.registry.content.uploads import Uploads
from sampan.registry.database.metadata import DatabaseAway, Metadata
from sampan.registry.database.sqlite import SqliteMetadata
from sampan.registry.descriptors.descriptors import Descriptors, NoDescriptors
from sampan.registry.drivers.driver import Driver
from sampan.registry.drivers.filesystem import FilesystemDriver
from sampan.registry.drivers.inmemory import InMemoryDriver
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.lists import Lists
from sampan.registry.redirects.addresses import Addresses
from sampan.registry.upkeep.beside import Beside
from sampan.registry.upkeep.gc import Collector
from sampan.registry.upkeep.inventory import take_inventory, upload_folders
from sampan.registry.upkeep.presence import Presence, own_name
from sampan.registry.upkeep.retention import Retention
from sampan.registry.upkeep.scrub import Scrubber

OWN = "sampan"  # our folder in a data directory, beside `docker`
DATABASE = "registry.db"
NAME = "name"  # by which other registries on the same bucket know this one


@dataclass(frozen=True)
class Shared:
    """Rows in a PostgreSQL that several registries on one storage share."""

    address: str
    worker: str  # what this one is called among them

    def folder(self, own: Path) -> Path:
        """Return where this one has its own files in a folder of all."""
        return own / "workers" / self.worker


class Registry:
    """Blobs, uploads, manifests, lists and the collector of one storage."""

    def __init__(
        self,
        driver: Driver,
        database: Path,
        validation: documents.Validation | None = None,
        shared: Shared | None = None,
    ) -> None:
        """The rows are in the file `database`, unless they are `shared`."""
        self.driver = driver
        self.own_folder = database.parent  # for files that are no part of the layout
        try:
            self.metadata = _open_rows(driver, database, shared)
        except sqlite3.Error as error:  # on a full disk it cannot even be read
            raise Unavailable(f"{database} cannot be used: {error}") from error
        self.scrubber = Scrubber(driver, self.metadata)
        try:
            if self.metadata.alone:
                with self.metadata.change():  # nobody writes to what is looked at
                    survey, adopt = driver.survey(paths.ROOT), Aliases(driver).adopt
                    changed = take_inventory(survey, self.metadata, adopt)
                self.scrubber.doubt(changed)
            self.metadata.ready()
        except BaseException as error:
            self.metadata.close()
            if isinstance(error, sqlite3.Error):
                raise Unavailable(f"{database} cannot be used: {error}") from error
            raise
        self.quotas = Quotas(self.metadata)
        self.blobs = Blobs(driver, self.metadata, self.quotas)
        unfinished = Unfinished(self.metadata, self.quotas)
        self.uploads = Uploads(driver, self.blobs, self.quotas, unfinished, self.metadata.hold)
        rules = validation or documents.Validation()
        self.manifests = Manifests(driver, self.metadata, rules, self.quotas)
        self.lists = Lists(self.metadata)
        self.collector = Collector(driver, self.metadata)
        self.retention = Retention(driver, self.metadata)
        self.descriptors: Descriptors = NoDescriptors()
        self.beside = Beside(driver, self.metadata)
        self.collector.look = self.beside.look
        for part in (self.blobs, self.manifests, self.lists):
            part.others = self.beside
        self._undo = ExitStack()
        self._undo.callback(self.metadata.close)

    @classmethod
    def on_filesystem(
        cls,
        root: str,
        validation: documents.Validation | None = None,
        shared: Shared | None = None,
    ) -> Self:
        """Open the registry in a folder; raise Conflict if another process has it open."""
        with ExitStack() as undo:
            own = Path(root, OWN)
            own.mkdir(parents=True, exist_ok=True)
            undo.callback(os.close, _lock(own / "lock", root, bool(shared)))
            if shared:
                own = shared.folder(own)
                own.mkdir(parents=True, exist_ok=True)
                undo.callback(os.close, _lock(own / "lock", f"{root} as {shared.worker}"))
            driver = FilesystemDriver(root, alone=not shared)
            undo.callback(driver.close)
            registry = cls(driver, own / DATABASE, validation, shared)
            registry._undo.push(undo.pop_all())
        return registry

    @classmethod
    def on_objects(
        cls,
        driver: ObjectDriver,
        state: Path,
        validation: documents.Validation | None = None,
        shared: Shared | None = None,
    ) -> Self:
        """Open the registry in a bucket; its rows are in the folder `state`.

        Raises Conflict if another process has that open, Unavailable if the bucket cannot be used.
        """
        with ExitStack() as undo:
            undo.callback(driver.close)
            own = state / OWN
            own.mkdir(parents=True, exist_ok=True)
            undo.callback(os.close, _lock(own / "lock", str(state)))
            try:
                driver.check()
                driver.folder = str(own)
                presence = undo.enter_context(Presence(driver, own_name(own / NAME)))
                registry = cls(driver, own / DATABASE, validation, shared)
            except OSError as error:
                raise Unavailable(f"{driver.bucket.name} cannot be used: {error}") from error
            if not shared:  # else the others know the same rows
                registry.collector.allowed = presence.demand_alone
            registry.retention.time_of_files = presence.storage_time
            registry._undo.push(undo.pop_all())
        return registry

    @classmethod
    def in_memory(cls, validation: documents.Validation | None = None) -> Self:
        """Make an empty registry that ends with the process."""
        folder = tempfile.mkdtemp(prefix="sampan-registry-")
        registry = cls(InMemoryDriver(), Path(folder, DATABASE), validation)
        registry._undo.callback(shutil.rmtree, folder, ignore_errors=True)
        return registry

    def use(self, addresses: Addresses) -> None:
        """Send clients to other addresses than the storage's own; they are closed with us."""
        self._undo.callback(addresses.close)
        self.blobs.addresses = addresses

    def describe(self, descriptors: Descriptors) -> None:
        """Tell others of blobs that come and go; they are closed with us."""
        self._undo.callback(descriptors.close)
        self.descriptors = descriptors
        for part in (self.blobs, self.manifests, self.collector, self.scrubber):
            part.descriptors = descriptors

    def purge_uploads(
        self,
        before: float,
        dry_run: bool = False,
        is_left: Callable[[str, int], bool] | None = None,
    ) -> list[str]:
        """End the uploads that were begun before a time; return their ids. See `Uploads.purge`.

        So ends what a kill has left of joining their parts, which has no id.
        """
        found = list(upload_folders(self.driver))
        purged = [
            key for name in found for key in self.uploads.purge(name, before, dry_run, is_left)
        ]
        if not dry_run:
            self.driver.sweep(before)
        return purged

    def close(self) -> None:
        """Close everything. Nothing may be at work any more."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_rows(driver: Driver, database: Path, shared: Shared | None) -> Metadata:
    if shared is None:
        return SqliteMetadata(database)
    try:
        from sampan.registry.database.postgresql import PostgresMetadata
    except ImportError as error:
        raise InvalidArgument(
            f"metadata.postgresql: {error.name} is missing: install sampan[registry-postgresql]"
        ) from error
    try:
        return PostgresMetadata(shared.address, _storage_id(driver))
    except DatabaseAway as error:
        raise Unavailable(f"metadata.postgresql: {error}") from error


def _storage_id(driver: Driver) -> str:
    """Return what tells a storage from others, whatever it is called where."""
    path = f"{OWN}/id"
    try:
        return driver.read(path).decode("ascii", "replace")
    except FileNotFoundError:
        driver.write([(path, str(uuid.uuid4()).encode())])
    return driver.read(path).decode("ascii", "replace")


def _lock(path: Path, root: str, shared: bool = False) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(f"another process works on the registry in {root}") from None
    return descriptor
