"""Content by digest: files named by what is in them, below `<root>/content`.

A blob is written without a name, checked, made durable and only then named; so a name stands for
complete and correct content. Unprivileged; may be used from several threads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import Digest, algorithm, encoded, parse_digest
from sampan.storage.fullness import told_when_full

CHUNK = 1 << 20
ALGORITHMS: Final = ("sha256", "sha512")


class ContentStore:
    """Blobs below one directory."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "content"
        self._blobs = self.folder / "blobs"
        self._unfinished = self.folder / "ingest"
        for folder in (*(self._blobs / name for name in ALGORITHMS), self._unfinished):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._unfinished.iterdir():
            left.unlink()

    def scratch(self) -> int:
        """Return a file without a name on the store's disk; it is gone when it is closed."""
        return os.open(self._unfinished, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def writer(self, algorithm: str = "sha256") -> Writer:
        """Return a writer of a new blob; use it as a context manager."""
        _check(algorithm)
        return Writer(self._unfinished, self._blobs / algorithm, algorithm)

    def ingest(
        self, chunks: Iterable[bytes], expected: Digest | None = None, size: int | None = None
    ) -> Digest:
        """Store `chunks` as one blob and return its digest.

        Raises InvalidArgument if the digest or the size is not the expected one.
        """
        with self.writer(algorithm(expected) if expected else "sha256") as writer:
            for chunk in chunks:
                writer.write(chunk)
                if size is not None and writer.size > size:
                    break
            return writer.commit(expected, size)

    def add(self, content: bytes, expected: Digest | None = None) -> Digest:
        """Store a small blob and return its digest; InvalidArgument if it is not `expected`."""
        return self.ingest([content], expected)

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is there."""
        return self._path(digest).exists()

    def size(self, digest: Digest) -> int:
        """Return the size of a blob; NotFound if there is none."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError as error:
            raise NotFound(f"content {digest}: not found") from error

    def allocated(self, digest: Digest) -> int:
        """Return the bytes that a blob occupies on the disk; 0 if there is none."""
        try:
            return self._path(digest).stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def open(self, digest: Digest) -> int:
        """Return a descriptor for reading a blob; NotFound if there is none."""
        try:
            return os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"content {digest}: not found") from error

    def read(self, digest: Digest, limit: int = 16 << 20) -> bytes:
        """Return a small blob whole; InvalidArgument if it is larger than `limit`."""
        with open(self.open(digest), "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise InvalidArgument(f"content {digest} is larger than {limit} bytes")
        return content

    def verify(self, digest: Digest) -> bool:
        """Read a blob and tell whether it still is what its name says."""
        checksum = hashlib.new(algorithm(digest))
        with open(self.open(digest), "rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                checksum.update(chunk)
        return checksum.hexdigest() == encoded(digest)

    def delete(self, digest: Digest) -> None:
        """Remove a blob; what is not there is no error."""
        self._path(digest).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Digest]:
        """Yield the digests of all blobs."""
        for kind in ALGORITHMS:
            for name in sorted(os.listdir(self._blobs / kind)):
                with suppress(InvalidArgument):
                    yield parse_digest(f"{kind}:{name}")

    def strangers(self) -> list[Path]:
        """Return what lies between the blobs and is none."""
        found = [path for path in self._blobs.iterdir() if path.name not in ALGORITHMS]
        for kind in ALGORITHMS:
            for name in os.listdir(self._blobs / kind):
                try:
                    parse_digest(f"{kind}:{name}")
                except InvalidArgument:
                    found.append(self._blobs / kind / name)
        return found

    def _path(self, digest: Digest) -> Path:
        _check(algorithm(digest))
        return self._blobs / algorithm(digest) / encoded(parse_digest(digest))


def _check(algorithm: str) -> None:
    if algorithm not in ALGORITHMS:
        raise InvalidArgument("unsupported digest algorithm")


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; NoSpace if the disk is full."""
    rest = memoryview(data)
    with told_when_full():
        while rest:
            rest = rest[os.write(fd, rest) :]


class Writer:
    """Writes one blob; without `commit` nothing stays."""

    def __init__(self, unfinished: Path, blobs: Path, algorithm: str = "sha256") -> None:
        self._path = unfinished / os.urandom(8).hex()
        self._blobs = blobs
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._algorithm, self._hash = algorithm, hashlib.new(algorithm)
        self.size = 0

    def write(self, chunk: bytes | memoryview) -> int:
        """Append bytes; return how many."""
        self._hash.update(chunk)
        write_all(self._fd, chunk)
        self.size += len(chunk)
        return len(chunk)

    def flush(self) -> None:
        """Do nothing: there is no buffer. For writers that are stacked on this one."""

    def commit(self, expected: Digest | None = None, size: int | None = None) -> Digest:
        """Check, make durable and name the blob; return its digest."""
        digest = Digest(f"{self._algorithm}:{self._hash.hexdigest()}")
        if size is not None and self.size != size:
            raise InvalidArgument(f"unexpected commit size {self.size}, expected {size}")
        if expected is not None and digest != expected:
            raise InvalidArgument(f"unexpected commit digest {digest}, expected {expected}")
        target = self._blobs / encoded(digest)
        if target.exists():
            return digest
        with told_when_full():
            os.fsync(self._fd)
        os.rename(self._path, target)
        folder = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        self._path.unlink(missing_ok=True)
