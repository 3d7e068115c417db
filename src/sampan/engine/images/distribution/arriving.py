"""Layers on their way from a registry: fetched, checked and unpacked in one pass.

The bytes go from the socket through the digest into a pipe, and from the pipe into the unpacking
helper: nothing is stored twice, and no more than a pipe's worth is in memory. Where layers do not
stand alone, a nameless file takes the pipe's place until the parent of the layer is there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from sampan.distribution.repository import Repository
from sampan.engine.blocking import blocking
from sampan.engine.images.distribution.transfers import Slots, Tell, Transfers
from sampan.engine.images.feeding import wide_pipe
from sampan.engine.images.model import Staged
from sampan.engine.images.reports import Meter, Report
from sampan.engine.images.store import ImageStore
from sampan.errors import SampanError
from sampan.spec.digest import Digest, parse_digest
from sampan.spec.image import Descriptor
from sampan.spec.names import short_id

Fetch = Callable[[int], Awaitable[None]]  # into a descriptor


@dataclass(slots=True)
class Arrived:
    """A layer that is here whole: unpacked, or as an archive that waits for its parent."""

    staged: Staged | None = None
    archive: int = -1

    def close(self) -> None:
        """Give up the archive; what is staged stays, for whoever wants it next."""
        if self.archive >= 0:
            os.close(self.archive)
            self.archive = -1


class Arriving:
    """Fetches layers, so many at once; who needs the same one shares it."""

    def __init__(self, store: ImageStore, slots: Slots) -> None:
        self._store, self.slots = store, slots
        self.transfers: Transfers[Arrived] = Transfers()

    async def fetch(
        self, repository: Repository, layer: Descriptor, diff_id: Digest, tell: Tell
    ) -> Arrived:
        """Fetch a layer, or find it complete where an interrupted attempt left it."""
        name = short_id(layer.digest)
        if there := await self._left(layer, diff_id):
            tell(lambda report: report.update(name, "Download complete"))
            return Arrived(there)
        async with self.slots.one(lambda: tell(lambda report: report.update(name, "Waiting"))):
            return await self._fetch(repository, layer, tell)

    async def _left(self, layer: Descriptor, diff_id: Digest) -> Staged | None:
        """Return what an interrupted attempt left complete; drop what is not what it should be."""
        digest = parse_digest(layer.digest)
        if found := self._store.layers.staged(digest, diff_id):
            return found
        if wrong := self._store.layers.staged(digest):
            await self._store.layers.discard(wrong)
        return None

    async def _fetch(self, repository: Repository, layer: Descriptor, tell: Tell) -> Arrived:
        name = short_id(layer.digest)

        def advance(count: int) -> None:
            tell(lambda report: report.advance(name, "Downloading", count, layer.size))

        meter = Meter(advance)

        async def fetch(into: int) -> None:
            await repository.fetch_blob(layer, into, meter)
            meter.stop()
            tell(lambda report: report.update(name, "Verifying Checksum"))
            tell(lambda report: report.update(name, "Download complete"))

        try:
            if self._store.layers.stands_alone():
                return Arrived(await self._stream(fetch, parse_digest(layer.digest)))
            return Arrived(archive=await self._spool(fetch))
        finally:
            meter.stop()

    async def unpack(self, arrived: Arrived, parent: Digest | None) -> Staged:
        """Unpack an archive on the layer below it; others may do the same at the same time."""
        own = os.open(f"/proc/self/fd/{arrived.archive}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return await self._store.layers.stage(own, parent=parent)
        except SampanError as error:
            raise type(error)(f"failed to register layer: {error}") from error
        finally:
            os.close(own)

    async def _spool(self, fetch: Fetch) -> int:
        archive = await blocking(self._store.content.scratch)
        try:
            await fetch(archive)
        except BaseException:
            os.close(archive)
            raise
        return archive

    async def _stream(self, fetch: Fetch, digest: Digest) -> Staged:
        read, write = wide_pipe()
        fetching = asyncio.ensure_future(fetch(write))
        fetching.add_done_callback(lambda _: os.close(write))
        staging = asyncio.ensure_future(self._store.layers.stage(read, digest))
        # While we hold the reading end, too, a helper that stopped would not stop the writer.
        staging.add_done_callback(lambda _: os.close(read))
        try:
            await asyncio.wait((fetching, staging), return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                with suppress(BrokenPipeError):  # the reader says why
                    fetching.result()
            return await self._staged(staging)
        except BaseException:
            await self._leave(fetching, staging)
            raise
        finally:
            fetching.cancel()  # if somebody else has staged the same layer meanwhile
            await asyncio.wait((fetching,))

    async def _staged(self, staging: asyncio.Future[Staged]) -> Staged:
        """Return what was unpacked; raise what that failed with, as Docker does."""
        try:
            return await asyncio.shield(staging)
        except SampanError as error:
            raise type(error)(f"failed to register layer: {error}") from error

    async def _leave(self, fetching: asyncio.Future[None], staging: asyncio.Future[Staged]) -> None:
        """Leave nothing of a layer that has not come whole."""
        fetching.cancel()
        await asyncio.wait((fetching, staging))  # unpacking ends when nobody writes any more
        whole = not fetching.cancelled() and fetching.exception() is None
        if not whole and not staging.cancelled() and staging.exception() is None:
            with suppress(SampanError):  # else the next attempt finds and drops it
                await self._store.layers.discard(staging.result())


def tell_extracting(report: Report, layer: Descriptor) -> None:
    """Tell that a layer is all there and goes to its place."""
    report.advance(short_id(layer.digest), "Extracting", layer.size, layer.size)
