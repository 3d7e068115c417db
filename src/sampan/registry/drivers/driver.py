"""What a storage driver does: small files whole, large ones in streams, below one root.

Paths are relative, with `/`, and made by `paths.py` from checked names. Missing files raise
FileNotFoundError; all other failures are OSError. Calls block: they are made in threads.

Files may be far away, and a file that is appended to may be in parts there. So whoever works on
it promises: what takes long is done before the one lock of the registry is taken (`stage`, `sync`,
`Move.prepare`), and only what is needed happens under it (`publish`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self


class Change(Protocol):
    """A change of the registry that a removal is part of, as `Metadata.change()` yields it."""

    def confirm(self) -> None:
        """Raise OSError if others may be changing the registry by now."""


class _Anyhow:
    def confirm(self) -> None:
        """Nobody is asked."""


# For files that no client was told to rely on: a structure test knows who has such.
ANYHOW: Change = _Anyhow()


class Content(Protocol):
    """An open file to read. On this machine it stays readable when its name is removed."""

    size: int
    local: str  # the file's path on this machine; empty if it has none
    descriptor: int  # of the open file; -1 if it has none

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`; nothing at the end."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Writer(Protocol):
    """An open file to append to."""

    @property
    def version(self) -> str:
        """What is in the storage, once it is synced or closed: it changes when others write there.

        Empty where nobody else can.
        """

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Whoever calls may use the bytes for something else afterwards."""

    def sync(self) -> None:
        """Return when all that was written outlasts a power failure."""

    def close(self) -> None:
        """Give it up. What was written is there for all who open the file from now on.

        Raises OSError if it is not; then it is unknown how much is there.
        """

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

    def settle(self, moved: Sequence[str] = ()) -> None:
        """Return when that outlasts a power failure, and the names of files that were moved."""

    def close(self) -> None:
        """Remove what was not published."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Move(Protocol):
    """A file on its way to another name."""

    def prepare(self) -> None:
        """Do what takes long and what nobody sees."""

    def publish(self) -> None:
        """Give the file its name, in place of what had that name."""

    def close(self) -> None:
        """Undo what was prepared and not published."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Survey(Protocol):
    """What there is, for those who look at all of it."""

    def read(self, path: str) -> bytes:
        """Return a small file's content."""

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        """Yield the contents of small files in the same order; None where there is none."""

    def size(self, path: str) -> int:
        """Return the size of a file."""

    def grown(self, path: str, note: str) -> int:
        """Return the size of a file that grows; 0 before its first byte, if its note is there.

        The note lies in the same folder.
        """

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a folder; none if there is no such folder."""


class Driver(Survey, Protocol):
    """Where a registry keeps its files."""

    moves_cheaply: bool  # a move costs no more than to leave in place what has the new name

    def survey(self, path: str) -> Survey:
        """Look at all that is in a folder, as it is now or later: cheaper than file by file."""

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write small files that need not outlast a power failure."""

    def stage(self, files: Sequence[File]) -> Staged:
        """Prepare small files; they have their names once they are published."""

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """Return the sizes of several files; None where there is none."""

    def modified(self, path: str) -> float:
        """Return when a file was last written, in seconds since the epoch."""

    def open(self, path: str) -> Content:
        """Open a file to read, also one that is appended to."""

    def url(self, path: str, method: str) -> str:
        """Return where a client can GET or HEAD a file by itself for a while; empty: nowhere."""

    def append(self, path: str, offset: int) -> Writer:
        """Open a file to write from `offset` on, which cuts off what is behind it."""

    def move(self, source: str, target: str, version: str = "") -> Move:
        """Return the move of a synced file to another name, which is not yet done.

        It fails if the file has another version than that of the writer that synced it.
        """

    def settle(self, paths: Sequence[str]) -> None:
        """Return when the names of these files outlast a power failure."""

    def delete(self, *groups: Sequence[str], within: Change) -> None:
        """Remove files, and folders with all that is in them; nothing happens if one is gone.

        No order holds in a group, but all of it is gone before anything of the next one goes:
        whatever stops us, nothing is left that leads to what is gone if it is in an earlier group.
        Raises OSError if something is left, once all others of its group are removed. The change
        is asked to confirm as late as can be: what that raises stops us, and what could not be
        undone is still there.
        """

    def sweep(self, before: float) -> None:
        """Remove what work has left that was broken off before a time, and that has no path."""

    def check(self) -> None:
        """Raise OSError if the storage cannot be used."""

    def close(self) -> None:
        """Give up what the driver holds."""


class Closing:
    """Is closed at the end of a `with` block."""

    def close(self) -> None:
        """Give up what is held: nothing, unless a subclass says otherwise."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Written(Closing):
    """Files that wait for their names; what was answered is stored. See Staged."""

    def __init__(self, driver: Driver, files: Sequence[File]) -> None:
        self._driver = driver
        self._files = files

    def publish(self) -> None:
        self._driver.write([(file.path, file.content) for file in self._files])

    def settle(self, moved: Sequence[str] = ()) -> None:
        """Nothing has to be done."""


def read_or_none(survey: Survey, path: str) -> bytes | None:
    """Return a small file's content; None if there is no file."""
    try:
        return survey.read(path)
    except (FileNotFoundError, IsADirectoryError):
        return None


def size_or_none(survey: Survey, path: str) -> int | None:
    """Return the size of a file; None if it is not there."""
    try:
        return survey.size(path)
    except FileNotFoundError:
        return None
