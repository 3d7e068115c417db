"""What the store of snapshots wants of a driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sampan.storage.archives.tar_writer import TarWriter
from sampan.storage.layers.rules import Rules
from sampan.storage.mounter import Change


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a snapshot and of all its parents, nearest parent first."""

    own: Path
    parents: tuple[Path, ...]


class SnapshotDriver(Protocol):
    """How snapshots share what they have in common, and how they become mounts."""

    name: str
    copies: bool  # a snapshot holds the content of its parents, too

    @property
    def sizes_problem(self) -> str:
        """Why `create` takes no size here; "" if it does."""

    def status(self) -> list[tuple[str, str]]:
        """Return what `docker info` shows of the driver."""

    def create(self, folder: Path, parents: tuple[Path, ...], size: int | None = None) -> None:
        """Fill the new folder of a snapshot: of a layer to be applied, or a writable one.

        With a `size`, no more bytes than that can be written to it; InvalidArgument if this file
        system cannot limit that.
        """

    def tree(self, folder: Path) -> int:
        """Open the directory that a layer is applied to."""

    def rules(self, parents: tuple[Path, ...]) -> Rules:
        """Return how a layer is applied."""

    def mount(self, folders: Folders, *, committed: bool, read_only: bool, user: int = -1) -> int:
        """Return a detached mount of a snapshot, with its files in the range of a user namespace.

        Raises Unsupported if the ids of the files cannot be mapped here.
        """

    def discard(self, folder: Path) -> None:
        """Remove from a folder, before all of it is deleted, what files alone do not tell."""

    def usage(self, folders: Folders) -> tuple[int, int]:
        """Return (bytes, inodes) of what the snapshot itself holds."""

    def changes(self, folders: Folders) -> list[Change]:
        """Return what an active snapshot changed."""

    def diff(self, folders: Folders, writer: TarWriter) -> None:
        """Write what an active snapshot changed as a layer."""

    def graph(self, folders: Folders, *, committed: bool) -> dict[str, str]:
        """Return what `inspect` shows."""
