"""What outputs of builds need of the world: layers in other forms, registries, names.

The engine has it all (`engine/exporting.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sampan.build.remotecache.importing import Origin
from sampan.distribution.credentials import Credentials
from sampan.spec.exports import Compression, LayerPlace
from sampan.spec.image import Descriptor
from sampan.spec.reference import Reference


class Packed(Protocol):
    """A layer in some form."""

    descriptor: Descriptor

    def read(self, at: int, size: int) -> bytes:
        """Return a part of it."""


class Destination(Protocol):
    """One repository that images are pushed to."""

    async def layer(
        self, layer: LayerPlace, form: Compression, wanted: Descriptor | None = None
    ) -> Descriptor:
        """Have a layer there, `wanted` or else in some form; return what it is."""

    async def blob(self, descriptor: Descriptor, content: bytes) -> None:
        """Have a small blob there."""

    async def manifest(self, descriptor: Descriptor, content: bytes, tag: str = "") -> None:
        """Store a manifest or index under its digest, or a tag."""


class Outlet(Protocol):
    """Where results of builds go."""

    async def measured(self, layer: LayerPlace, form: Compression) -> Descriptor:
        """Return what a layer is in some form; one that lies in a registry is not compressed."""

    def packed(self, layer: LayerPlace, form: Compression) -> AbstractAsyncContextManager[Packed]:
        """Have a layer in some form."""

    def destination(self, reference: Reference, credentials: Credentials | None) -> Destination:
        """Return the repository that a reference is in, for a push."""

    def origin(self, reference: Reference, credentials: Credentials | None) -> Origin:
        """Return what a reference names in its registry, to read it."""

    async def record(
        self, configs: Sequence[bytes], documents: Sequence[bytes], names: Sequence[str]
    ) -> None:
        """Store images whose layers are there, with what is said of them, under names.

        The last of the documents is what the names stand for; without one it is the image.
        """
