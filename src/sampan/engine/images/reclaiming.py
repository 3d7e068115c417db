"""What nothing needs any more goes: layers, archives, manifests and configurations.

Mark and sweep over what is in memory. Nothing goes while something comes in: a new image may need
what nobody else does.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sampan.engine.blocking import blocking
from sampan.engine.images.documents import Documents
from sampan.engine.images.layers import Layers
from sampan.engine.images.model import Image
from sampan.engine.images.names import Names
from sampan.errors import SampanError
from sampan.spec.digest import Digest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What is on the disk and belongs to nothing."""

    blobs: set[Digest] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    snapshots: set[str] = field(default_factory=set)  # of layers


class Reclaiming:
    """The collector of one image store."""

    def __init__(
        self, images: Mapping[str, Image], names: Names, documents: Documents, layers: Layers
    ) -> None:
        self._images, self._names, self._documents = images, names, documents
        self._layers, self._content = layers, layers.content
        self._lock = asyncio.Lock()  # held while layers and content are removed
        self._intakes = 0
        self._postponed = 0
        self._unclean = False
        self._swept = 0
        self.claimed: set[str] = set()  # images that came in and have no name yet

    @property
    def freed(self) -> int:
        """The bytes of all files, archives and documents that have gone since the start."""
        return self._layers.freed + self._swept

    @asynccontextmanager
    async def intake(self) -> AsyncIterator[None]:
        """Keep all layers and content while new ones come in that no image has yet.

        What should have gone meanwhile, or was left by an error, goes afterwards; layers that
        were complete and can be found again are kept for a day.
        """
        async with self._lock:
            self._intakes += 1
        try:
            yield
        except BaseException:
            self._unclean = True
            raise
        finally:
            self._intakes -= 1
            if not self._intakes:
                self.claimed.clear()
            if self._unclean or self._layers.expired(time.time_ns()):
                await self._collect_quietly()

    async def _collect_quietly(self) -> None:
        """Collect for somebody whose own work, or failure, is what counts."""
        try:
            await self.collect()
        except (SampanError, OSError, sqlite3.Error) as error:
            log.warning("what nothing needs could not be removed: %s", error)
            self._unclean = True

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Let deletions of many images leave their layers to one collection after them."""
        self._postponed += 1
        try:
            yield
        finally:
            self._postponed -= 1

    @property
    def is_taking_in(self) -> bool:
        """Something comes in: collections wait."""
        return self._intakes > 0

    def claim(self, image: str) -> None:
        """Let nobody delete an image before it has a name, or the intake has ended."""
        if self._intakes:
            self.claimed.add(image)

    def collect_later(self) -> None:
        """Have everything collected that nothing needs, as soon as no intake is going on."""
        self._unclean = True

    async def release(self, image: Image) -> list[str]:
        """Remove what only a deleted image needed; return the layers, top first."""
        async with self._lock:
            if self._postponed:
                self._unclean = True
                return []
            needed = self._needed()
            removed: list[str] = []
            for chain in reversed(image.chains):
                if chain in needed or self._layers.is_held(chain):
                    break
                if not await self._layers.remove(chain):
                    break
                removed.append(chain)
            if self._intakes:  # content has no owner while it comes in
                self._unclean = True
            else:
                await self._layers.forget_unplaced()
                await self._sweep()
            return removed

    async def tidy(self) -> None:
        """Remove content that nothing needs, now or as soon as nothing comes in."""
        async with self._lock:
            if self._intakes or self._postponed:
                self._unclean = True
            else:
                await self._sweep()

    async def collect(self, *, leased: bool = False) -> list[str]:
        """Remove all layers and content that nothing needs: what crashes and containers left.

        With `leased` also what interrupted intakes had completed. Returns the chain ids of the
        layers that went.
        """
        async with self._lock:
            if self._intakes:
                self._unclean = True
                return []
            self._unclean = False
            try:
                return await self._collect(leased=leased)
            except BaseException:
                self._unclean = True
                raise

    async def _collect(self, *, leased: bool) -> list[str]:
        layers = self._layers
        over = list(layers.leases) if leased else layers.expired(time.time_ns())
        await layers.end_leases(over)
        snapshots = await blocking(self._layers.mounter.snapshots)
        await layers.found(snapshots)
        needed = self._needed() | layers.leases.keys()
        parents = {Digest(info.key): info.parent for info in snapshots if info.kind == "committed"}
        below = {info.parent for info in snapshots}
        removed: list[str] = []
        waiting = [key for key in parents if key not in below]
        while waiting:
            key = waiting.pop()
            if key in needed or not await layers.remove(key):
                continue
            removed.append(key)
            if (parent := parents.get(key)) is not None:
                waiting.append(Digest(parent))
        for chain in layers.chains.keys() - parents.keys() - needed:
            await layers.forget(chain)  # it was removed, but a crash kept its row
        await layers.forget_unplaced()
        await self._sweep()
        return removed

    async def _sweep(self) -> None:
        """Remove content that no image, no reference and no layer needs."""
        for digest in set(await blocking(list, self._content)) - self._known():
            size = await blocking(self._content.size, digest)
            await blocking(self._content.delete, digest)
            self._documents.forget(digest)
            self._swept += size

    def _known(self) -> set[str]:
        """Return the digests of all content that something needs."""
        known: set[str] = {layer.blob for layer in self._layers.kept() if layer.blob}
        known |= self._images.keys()
        for target in self._names.targets():
            known.update(self._documents.blobs(target, self._images))
        return known

    async def leftovers(self) -> Leftovers:
        """Return what a collection would remove; nothing while something comes in."""
        async with self._lock:
            if self._intakes:
                return Leftovers()
            snapshots = await blocking(self._layers.mounter.snapshots)
            needed = self._needed() | self._layers.leases.keys()
            below = {info.parent for info in snapshots}
            return Leftovers(
                blobs=set(await blocking(list, self._content)) - self._known(),
                files=await blocking(self._content.strangers),
                snapshots={
                    info.key
                    for info in snapshots
                    if info.kind != "active" and info.key not in needed and info.key not in below
                },
            )

    def _needed(self) -> set[str]:
        cached = {chain for chain, holders in self._layers.cached.items() if holders > 0}
        return cached | {chain for image in self._images.values() for chain in image.chains}
