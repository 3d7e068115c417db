"""Uploads: blobs on their way in. What was received is in the storage, so a restart loses nothing.

Only the state of the hash lives in memory; where it is lost, the file is read once more.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, Self

from sampan.registry import paths
from sampan.registry.blobs import Blobs
from sampan.registry.drivers.driver import Driver, Writer
from sampan.registry.errors import RegistryError
from sampan.registry.quotas import Quotas
from sampan.spec.digest import Digest, algorithm

log = logging.getLogger(__name__)
PIECE = 1 << 20
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # Go's RFC 3339, as docker-registry writes `startedat`


class Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass
class _Session:
    """What memory knows of one upload: a hash of its first `hashed` bytes, in one version."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    algorithm: str = "sha256"
    hash: Hash | None = None
    hashed: int = 0
    version: str = ""


Hold = Callable[[str], AbstractContextManager[bool]]  # keeps other processes away


class Uploads:
    """The uploads of all repositories."""

    def __init__(self, driver: Driver, blobs: Blobs, quotas: Quotas, hold: Hold) -> None:
        self._hold = hold
        self._quotas = quotas
        self._driver = driver
        self._blobs = blobs
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def start(self, repository: str, algorithm: str = "sha256") -> str:
        """Begin an upload and return its key; `algorithm` is that of the digest to come."""
        key = str(uuid.uuid4())
        folder = paths.upload(repository, key)
        started = datetime.now(UTC).strftime(_TIME).encode()
        self._driver.write([(f"{folder}/startedat", started)])
        with self._lock:
            self._sessions[key] = _Session(algorithm=algorithm)
        return key

    def offset(self, repository: str, key: str) -> int:
        """Return how many bytes have been received; raise BLOB_UPLOAD_UNKNOWN."""
        folder = paths.upload(repository, key)
        try:
            return self._driver.grown(f"{folder}/data", f"{folder}/startedat")
        except FileNotFoundError:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", {"upload": key}) from None

    @contextmanager
    def _session(self, repository: str, key: str) -> Iterator[tuple[_Session, int]]:
        """Be the only one who works on an upload; yield what is known, and its offset."""
        with self._lock:
            session = self._sessions.setdefault(key, _Session())
        if not session.lock.acquire(blocking=False):
            raise _taken(key)
        try:
            with self._hold(key) as got:
                if not got:
                    raise _taken(key)
                try:
                    offset = self.offset(repository, key)
                except RegistryError:
                    self._forget(key)
                    raise
                yield session, offset
        finally:
            session.lock.release()

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
        try:
            if start is not None and start != offset:
                raise RegistryError("RANGE_INVALID", {"offset": offset})
            room = self._quotas.room(repository, digest)
            if room is None and digest:  # what is there may come again, and nothing that is longer
                room = self._quotas.length(repository, digest)
            if room is not None and offset + more > room:
                self._quotas.refuse(repository, offset + more)
            writer = self._driver.append(f"{paths.upload(repository, key)}/data", offset)
        except BaseException:
            life.__exit__(None, None, None)
            raise
        receiver = Receiver(session, writer, offset, lambda: life.__exit__(None, None, None))
        if room is not None:
            receiver.limit(room, lambda size: self._quotas.refuse(repository, size))
        return receiver

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
                self._blobs.accept(repository, digest, receiver.offset, data, version)
                self._end(repository, key)
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

    def cancel(self, repository: str, key: str) -> None:
        """End an upload and throw away what was received."""
        with self._session(repository, key):
            self._end(repository, key)
        self._forget(key)

    def _end(self, repository: str, key: str) -> None:
        self._driver.delete(paths.upload(repository, key))

    def _forget(self, key: str) -> None:
        with self._lock:
            self._sessions.pop(key, None)

    def purge(self, repository: str, before: float, dry_run: bool = False) -> list[str]:
        """End the uploads of a repository that were begun before a time; return their ids."""
        purged = []
        for key in self._driver.list(paths.uploads(repository)):
            begun = self._begun(repository, key)
            if begun is None or begun >= before:
                continue
            try:
                if not dry_run:
                    self.cancel(repository, key)
            except RegistryError:  # somebody works on it, or it has just ended
                continue
            purged.append(key)
            log.info("upload %s of %s is purged", key, repository)
        return purged

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


def _taken(key: str) -> RegistryError:
    return RegistryError(
        "BLOB_UPLOAD_INVALID",
        {"upload": key},
        message="another request is writing to this upload",
        status=409,
    )


class Receiver:
    """Appends to one upload and hashes what passes, in whatever thread.

    A hash in memory holds for the version of the storage that it was made with: another registry
    on the same storage may have taken a piece in between.
    """

    def __init__(self, session: _Session, writer: Writer, offset: int, release: _Release) -> None:
        self._session = session
        self.writer = writer
        self.offset = offset
        self.over = False
        self._release = release
        self._room: int | None = None
        self._refuse: Callable[[int], None] | None = None
        if offset == 0:
            session.hash, session.hashed = hashlib.new(session.algorithm), 0
        elif (session.hashed, session.version) != (offset, writer.version):
            session.hash = None

    def limit(self, room: int, refuse: Callable[[int], None]) -> None:
        """Take no more than so many bytes in all; then `refuse` raises what is answered."""
        self._room, self._refuse = room, refuse

    def write(self, data: bytes | memoryview) -> None:
        """Append. What was not written entirely is not counted."""
        if self._room is not None and self._refuse and self.offset + len(data) > self._room:
            self._refuse(self.offset + len(data))
        self.writer.write(data)
        self.offset += len(data)
        if self._session.hash is not None:
            self._session.hash.update(data)
            self._session.hashed = self.offset

    def digest(self, algorithm: str) -> str:
        """Return the digest of all that was received; empty if it has to be read again."""
        session = self._session
        if session.hash is None or session.hashed != self.offset or session.algorithm != algorithm:
            return ""
        return f"{algorithm}:{session.hash.hexdigest()}"

    def close(self) -> None:
        """Let others write to the upload."""
        if not self.over:
            self.over = True
            try:
                self.writer.close()
                self._session.version = self.writer.version
            except OSError:
                self._session.hash = None  # some of what it has seen may not be there
                raise
            finally:
                self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Release(Protocol):
    def __call__(self) -> object: ...
