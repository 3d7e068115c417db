"""What one request writes to an upload: appended, hashed, and counted where there are quotas."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

from sampan.registry.database.metadata import ALL
from sampan.registry.drivers.driver import Writer
from sampan.registry.errors import RegistryError
from sampan.spec.digest import Digest


class Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass
class Session:
    """What memory knows of one upload: a hash of its first `hashed` bytes, in one version."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0  # requests that work on it, or wait for that
    algorithm: str = "sha256"
    hash: Hash | None = None
    hashed: int = 0
    version: str = ""


class Counted(Protocol):
    """Uploads that quotas count: see `Uploads`."""

    def reserve(
        self, repository: str, key: str, size: int, digest: Digest | None, *, step: bool
    ) -> int | None: ...

    def length(self, repository: str, digest: Digest | None) -> int | None: ...

    def settle(self, repository: str, key: str, size: int, keep: bool) -> None: ...


class Share:
    """What one request may make of an upload where there are quotas.

    Content that is there already takes no room. Nothing is left of a request that begins to send
    it again and breaks off: it would count for nobody.
    """

    def __init__(
        self, uploads: Counted, repository: str, key: str, offset: int, digest: Digest | None
    ) -> None:
        self._uploads = uploads
        self._upload = (repository, key)
        self._digest = digest
        self._reserved = offset
        self._is_held = False
        self.allowed = offset  # bytes in all, without asking
        self.received = offset
        self.is_over = False

    def ask(self, size: int, *, step: bool = True) -> None:
        """Ask for as many bytes in all. Raises DENIED."""
        repository, key = self._upload
        got = self._uploads.reserve(repository, key, size, self._digest, step=step)
        if got is not None:
            self._reserved = self.allowed = got
            return
        length = self._uploads.length(repository, self._digest)
        if length is None:
            self.allowed = ALL
            return
        self._is_held = True
        self.allowed = length
        if size > length:
            raise RegistryError(
                "DENIED",
                {"digest": self._digest, "size": length},
                message=f"{self._digest} is there, and has {length} bytes: more are too many",
            )

    def settle(self) -> None:
        """Set aside what was received and no more."""
        if not self.is_over and self._reserved != self.received:
            self._uploads.settle(*self._upload, self.received, keep=not self._is_held)


class Receiver:
    """Appends to one upload and hashes what passes, in whatever thread.

    A hash in memory holds for the version of the storage that it was made with: another registry
    on the same storage may have taken a piece in between.
    """

    def __init__(
        self,
        session: Session,
        writer: Writer,
        offset: int,
        share: Share | None,
        release: Callable[[], None],
    ) -> None:
        self._session = session
        self.writer = writer
        self.offset = offset
        self.over = False
        self._release = release
        self._share = share
        if offset == 0:
            session.hash, session.hashed = hashlib.new(session.algorithm), 0
        elif (session.hashed, session.version) != (offset, writer.version):
            session.hash = None

    def is_blob(self) -> None:
        """Take note that what was received is a blob now."""
        if self._share:
            self._share.is_over = True

    def write(self, data: bytes | memoryview) -> None:
        """Append. What was not written entirely is not counted. Raises DENIED."""
        share = self._share
        if share and self.offset + len(data) > share.allowed:
            share.ask(self.offset + len(data))
        self.writer.write(data)
        self.offset += len(data)
        if share:
            share.received = self.offset
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
