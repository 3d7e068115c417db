"""What a storage driver does: small files whole, large ones in streams, below one root.

Paths are relative, with `/`, and made by `paths.py` from checked names. Missing files raise
FileNotFoundError; all other failures are OSError. Calls block: they are made in threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self


class Content(Protocol):
    """An open file to read. It stays readable when its name is removed."""

    size: int
    local: str  # the file's path on this machine; empty if it has none

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`; nothing at the end."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Writer(Protocol):
    """An open file to append to."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def sync(self) -> None:
        """Return when all that was written outlasts a power failure."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class File:
    """A small file to write. `told`: its path says what its content says, so nobody needs this."""

    path: str
    content: bytes
    told: bool = False


class Staged(Protocol):
    """Files that are written, each under another name."""

    def publish(self) -> None:
        """Give the files their names, in their order: each is there whole, or as it was."""

    def settle(self) -> None:
        """Return when that outlasts a power failure."""

    def close(self) -> None:
        """Remove what was not published."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Driver(Protocol):
    """Where a registry keeps its files."""

    def read(self, path: str) -> bytes:
        """Return a small file's content."""

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write small files that need not outlast a power failure."""

    def stage(self, files: Sequence[File]) -> Staged:
        """Prepare small files; they have their names once they are published."""

    def size(self, path: str) -> int:
        """Return the size of a file."""

    def modified(self, path: str) -> float:
        """Return when a file was last written, in seconds since the epoch."""

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a folder; none if there is no such folder."""

    def open(self, path: str) -> Content:
        """Open a file to read."""

    def append(self, path: str, offset: int) -> Writer:
        """Open a file to write from `offset` on, which cuts off what is behind it."""

    def move(self, source: str, target: str) -> None:
        """Give a synced file another name, in place of what had that name."""

    def settle(self, paths: Sequence[str]) -> None:
        """Return when the names of these files outlast a power failure."""

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing happens if it is gone."""

    def check(self) -> None:
        """Raise OSError if the storage cannot be used."""

    def close(self) -> None:
        """Give up what the driver holds."""
