"""Uploads: blobs on their way in. What was received is in the storage, so a restart loses nothing.

Only the state of the hash lives in memory; where it is lost, the file is read once more.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TypeVar

from sampan.registry import paths
from sampan.registry.content.blobs import Blobs
from sampan.registry.content.quotas import Quotas
from sampan.registry.content.receivers import Receiver, Session, Share
from sampan.registry.content.unfinished import Unfinished, is_of_uploads
from sampan.registry.drivers.driver import ANYHOW, Driver
from sampan.registry.errors import RegistryError
from sampan.spec.digest import Digest, algorithm

log = logging.getLogger(__name__)
T = TypeVar("T")
PIECE = 1 << 20
REMEMBERED = 10_000  # uploads, each with a lock and a hash; anybody may begin any number
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # Go's RFC 3339, as docker-registry writes `startedat`
Hold = Callable[[str], AbstractContextManager[bool]]  # keeps other processes away


class Uploads:
    """The uploads of all repositories."""

    def __init__(
        self, driver: Driver, blobs: Blobs, quotas: Quotas, unfinished: Unfinished, hold: Hold
    ) -> None:
        self._hold = hold
        self._quotas = quotas
        self._unfinished = unfinished
        self._driver = driver
        self._blobs = blobs
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def start(
        self, repository: str, algorithm: str = "sha256", digest: Digest | None = None
    ) -> str:
        """Begin an upload and return its key; `algorithm` is that of the digest to come.

        Raises DENIED if no byte may come that is not of this digest, TOOMANYREQUESTS.
        """
        key = str(uuid.uuid4())
        folder = paths.upload(repository, key)
        started = datetime.now(UTC).strftime(_TIME).encode()
        self.making_room(repository, lambda: self._unfinished.begin(repository, key, digest))
        try:
            self._driver.write([(f"{folder}/startedat", started)])
        except OSError:
            self._unfinished.end(repository, key)
            raise
        with self._lock:
            self._sessions[key] = Session(algorithm=algorithm)
            self._forget_oldest()
        return key

    def _forget_oldest(self) -> None:
        """Forget what memory knows of uploads that nobody works on; files are hashed again then."""
        while len(self._sessions) > REMEMBERED:
            idle = next((key for key, one in self._sessions.items() if not one.users), None)
            if idle is None:
                return
            del self._sessions[idle]

    def making_room(self, repository: str, attempt: Callable[[], T]) -> T:
        """Return what an attempt returns; where quotas forbid it, end uploads that nobody sends."""
        while True:
            try:
                return attempt()
            except RegistryError as error:
                if not is_of_uploads(error) or not self._end_idle(repository):
                    raise

    def _end_idle(self, repository: str) -> bool:
        """End the upload that was left alone for longest; False if there is none."""
        for name, key in self._unfinished.idle(repository):
            try:
                self.cancel(name, key)
            except RegistryError as error:
                if error.items[0].code != "BLOB_UPLOAD_UNKNOWN":
                    continue  # somebody works on it
                self._unfinished.end(name, key)
            log.info("upload %s of %s is ended: its room is needed", key, name)
            return True
        return False

    def offset(self, repository: str, key: str) -> int:
        """Return how many bytes have been received; raise BLOB_UPLOAD_UNKNOWN."""
        folder = paths.upload(repository, key)
        try:
            return self._driver.grown(f"{folder}/data", f"{folder}/startedat")
        except FileNotFoundError:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", {"upload": key}) from None

    @contextmanager
    def _session(
        self, repository: str, key: str, patience: float = 0
    ) -> Iterator[tuple[Session, int]]:
        """Be the only one who works on an upload; yield what is known, and its offset.

        Who works on it in this process is waited for, `patience` seconds.
        """
        with (
            self._remembered(key) as session,
            _alone(session, key, patience),
            self._hold(key) as got,
        ):
            if not got:
                raise _taken(key)
            try:
                offset = self.offset(repository, key)
            except RegistryError:
                self._forget(key)
                raise
            yield session, offset

    @contextmanager
    def _remembered(self, key: str) -> Iterator[Session]:
        """Lend what memory knows of an upload, which stays there as long."""
        with self._lock:
            session = self._sessions.setdefault(key, Session())
            session.users += 1
        try:
            yield session
        finally:
            with self._lock:
                session.users -= 1
                self._forget_oldest()

    def receive(
        self,
        repository: str,
        key: str,
        start: int | None = None,
        more: int = 0,
        digest: Digest | None = None,
    ) -> Receiver:
        """Open an upload to append to it; `start` is where the client believes that it stands.

        Raises RANGE_INVALID if it stands elsewhere, and DENIED if there is no room for `more`
        bytes, unless content of this digest is there. The receiver has to be closed.
        """
        life = self._session(repository, key)
        session, offset = life.__enter__()
        with ExitStack() as undo:
            undo.push(life)
            if start is not None and start != offset:
                raise RegistryError("RANGE_INVALID", {"offset": offset})
            share = None
            if self._quotas.count_uploads(repository):
                share = Share(self, repository, key, offset, digest)
                undo.callback(share.settle)
                if more:
                    share.ask(offset + more, step=False)
            writer = self._driver.append(f"{paths.upload(repository, key)}/data", offset)
            kept = undo.pop_all()
        return Receiver(session, writer, offset, share, kept.close)

    def reserve(
        self, repository: str, key: str, size: int, digest: Digest | None, *, step: bool
    ) -> int | None:
        """Return how many bytes an upload may have, which needs `size`; None: what is there."""
        return self.making_room(
            repository,
            lambda: self._unfinished.reserve(repository, key, size, digest, step=step),
        )

    def length(self, repository: str, digest: Digest | None) -> int | None:
        """Return how long an upload may be whose content is there; None: as long as it likes."""
        return self._quotas.length(repository, digest) if digest else None

    def settle(self, repository: str, key: str, size: int, keep: bool) -> None:
        """Note what a request has left of an upload, or end it."""
        try:
            if keep:
                self._unfinished.settle(repository, key, size)
            else:
                self._end(repository, key)
        except (OSError, sqlite3.Error) as error:  # too much is set aside until the next start
            log.warning("upload %s of %s is not counted anew: %s", key, repository, error)

    def finish(self, repository: str, key: str, digest: Digest, receiver: Receiver) -> None:
        """Verify what was received and make it a blob of the repository; close the receiver.

        Raises DIGEST_INVALID; then the upload is over.
        """
        data = f"{paths.upload(repository, key)}/data"
        try:
            with receiver:
                receiver.writer.sync()
                found = receiver.digest(algorithm(digest)) or self._hash(data, algorithm(digest))
                if found != digest:
                    self._end(repository, key)
                    raise RegistryError("DIGEST_INVALID", {"digest": digest, "received": found})
                version = receiver.writer.version
                self._blobs.accept(repository, digest, receiver.offset, key, version)
                receiver.is_blob()
                self._driver.delete([paths.upload(repository, key)], within=ANYHOW)
        finally:
            if receiver.over:
                self._forget(key)

    def _hash(self, path: str, algorithm: str) -> str:
        found = hashlib.new(algorithm)
        with self._driver.open(path) as content:
            offset = 0
            while piece := content.read(offset, PIECE):
                found.update(piece)
                offset += len(piece)
        return f"{algorithm}:{found.hexdigest()}"

    def cancel(self, repository: str, key: str, patience: float = 0) -> None:
        """End an upload and throw away what was received; a last writer has `patience` seconds."""
        with self._session(repository, key, patience):
            self._end(repository, key)
        self._forget(key)

    def _end(self, repository: str, key: str) -> None:
        self._driver.delete([paths.upload(repository, key)], within=ANYHOW)
        self._unfinished.end(repository, key)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._sessions.pop(key, None)

    def purge(
        self,
        repository: str,
        before: float,
        dry_run: bool = False,
        is_left: Callable[[str, int], bool] | None = None,
    ) -> list[str]:
        """End the uploads of a repository that were begun before a time; return their ids.

        With `is_left` only those of which it says so, by their ids and how many bytes they have.
        """
        purged = []
        for key in self._driver.list(paths.uploads(repository)):
            begun = self._begun(repository, key)
            if begun is None or begun >= before:
                continue
            try:
                if is_left and not is_left(key, self._length(repository, key)):
                    continue
                if not dry_run:
                    self.cancel(repository, key)
            except RegistryError:  # somebody works on it, or it has just ended
                continue
            purged.append(key)
            log.info("upload %s of %s is purged", key, repository)
        return purged

    def _length(self, repository: str, key: str) -> int:
        """Return how many bytes an upload has; -1 if it has lost its files."""
        try:
            return self.offset(repository, key)
        except RegistryError:
            return -1

    def _begun(self, repository: str, key: str) -> float | None:
        """Return when an upload was begun; without a readable note, when its data was written."""
        folder = paths.upload(repository, key)
        try:
            text = self._driver.read(f"{folder}/startedat").decode("ascii", "replace")
            return datetime.strptime(text[:19], _TIME[:-1]).replace(tzinfo=UTC).timestamp()
        except (FileNotFoundError, ValueError):
            pass
        for name in ("data", "startedat"):
            try:
                return self._driver.modified(f"{folder}/{name}")
            except FileNotFoundError:
                continue
        return time.time() if self._driver.list(folder) else None


@contextmanager
def _alone(session: Session, key: str, patience: float) -> Iterator[None]:
    if not session.lock.acquire(timeout=patience):
        raise _taken(key)
    try:
        yield
    finally:
        session.lock.release()


def _taken(key: str) -> RegistryError:
    return RegistryError(
        "BLOB_UPLOAD_INVALID",
        {"upload": key},
        message="another request is writing to this upload",
        status=409,
    )
