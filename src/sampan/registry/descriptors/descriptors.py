"""What other registries on the same storage are told of blobs that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sampan.registry.database.metadata import Metadata

if TYPE_CHECKING:
    from sampan.registry.descriptors.figures import Figures


class Descriptors(Protocol):
    """A cache of descriptors that others read. No call fails, or waits for long."""

    @property
    def figures(self) -> Figures | None:
        """How it does."""

    def tell(self, repository: str, digest: str) -> None:
        """Say that a repository has a blob; without one, that a manifest's content is there.

        The change has ended before. What cannot be told now is told by nobody: others look.
        """

    def settle(self) -> None:
        """Wait for a moment until what was removed is removed there too, if that can be now."""

    def close(self) -> None:
        """End."""


class NoDescriptors:
    """Nobody reads any."""

    figures: Figures | None = None

    def tell(self, repository: str, digest: str) -> None:
        """Nobody is told."""

    def settle(self) -> None:
        """Nothing is owed."""

    def close(self) -> None:
        """Nothing goes on."""


def owe(metadata: Metadata, place: str) -> None:
    """Have the database note from now on which descriptors are owed a removal, at a place."""
    with metadata.change() as database:
        if metadata.alone:
            database.execute("DELETE FROM described WHERE place != ?", (place,))
        database.execute("INSERT INTO described VALUES (?, '', 0) ON CONFLICT DO NOTHING", (place,))


def owe_nothing(metadata: Metadata) -> None:
    """Have it note nothing any more, unless others want that."""
    if metadata.alone and metadata.row("SELECT 1 FROM described"):
        with metadata.change() as database:
            database.execute("DELETE FROM described")
            database.execute("DELETE FROM owed")
