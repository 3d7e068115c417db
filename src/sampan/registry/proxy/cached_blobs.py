"""The blobs of a repository of an upstream: those that are here, and those that come.

A blob comes once, whoever wants it, and is taken from another repository here where that is right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from sampan.errors import SampanError
from sampan.registry import paths
from sampan.registry.drivers.driver import Content
from sampan.registry.errors import RegistryError
from sampan.registry.proxy import placed
from sampan.registry.proxy.arriving import Absent, Arriving
from sampan.registry.proxy.reading import Reading
from sampan.registry.proxy.transfers import Transfer
from sampan.spec.digest import Digest
from sampan.spec.image import Descriptor, parse_document

OCTETS = "application/octet-stream"
BLOB = "blob"


class CachedBlobs(placed.Placed):
    """The blobs of a repository at a place."""

    async def open(self, digest: Digest, *, to_read: bool = True) -> Content | Arriving:
        """Open a blob: one that is here, or that comes, which is begun if nobody has.

        Raises BLOB_UNKNOWN; DENIED, TOOMANYREQUESTS or UNAVAILABLE; OSError if it cannot be stored.
        """
        self._count("requests", BLOB)
        shared = self._shared
        content: Content | None = await shared.look(self._here, digest)
        if content is None:
            size = await self._size(digest)
            content = await shared.look(self._held, digest)
        if content is not None:
            self._count("hits", BLOB)
            return content
        transfer = self._under_way(digest)
        if transfer is None and not to_read:
            return Absent(size)
        keeps = True
        if transfer is None:
            keeps = await self._may_make_room(digest, size)
            transfer = self._under_way(digest)
        self._count("hits" if transfer else "misses", BLOB)
        arriving = Arriving(transfer or self._begin(digest, size, keeps))
        try:
            await arriving.ready(0, min(1, size))
        except SampanError as error:
            arriving.close()
            raise self._failure(error, _no_blob(digest)) from None
        except BaseException:
            arriving.close()
            raise
        return arriving

    def _here(self, digest: Digest) -> Content | None:
        """Open a blob that this repository has; what is torn has to come again."""
        blobs = self._shared.registry.blobs
        try:
            content = blobs.open(self._name, digest)
            if content.local:
                return content
            return Reading(content, partial(blobs.find, self._name, digest))
        except RegistryError as error:
            if error.items[0].code not in ("BLOB_UNKNOWN", "UNAVAILABLE"):
                raise
        return None

    def _held(self, digest: Digest) -> Content | None:
        """Open a blob that another repository has and that may be given to this one."""
        registry = self._shared.registry
        if registry.metadata.row("SELECT 1 FROM links WHERE digest = ?", digest) is None:
            return None
        try:
            if not registry.blobs.mount(self._name, digest, "", self._may_share):
                return None
        except RegistryError as error:
            if error.items[0].code != "DENIED":
                raise
            return self._elsewhere(digest)
        return self._here(digest)

    def _elsewhere(self, digest: Digest) -> Content | None:
        """Open a blob of another repository, for which a quota leaves this one no room."""
        registry = self._shared.registry
        rows = registry.metadata.rows("SELECT repository FROM links WHERE digest = ?", digest)
        for (holder,) in rows:
            if self._may_share(holder):
                return registry.blobs.open(holder, digest)
        return None

    def _may_share(self, holder: str) -> bool:
        """Tell whether this repository, which has a blob there, may have it from another one here.

        Yes, if everybody, or this upstream, or this client could give it. Else it comes once more:
        who can give it has it, and who knows its digest alone does not.
        """
        place = self._shared.places.of(holder)
        if place is None:
            return self._may_read(holder)
        upstream = place.upstream
        return upstream is self.place.upstream or upstream.is_public or self._may_read(holder)

    async def _size(self, digest: Digest) -> int:
        """Return the length of a blob that the upstream's repository has. Raises BLOB_UNKNOWN."""
        described = await self._shared.look(self._described, digest)
        if described is not None:
            return described
        try:
            async with asyncio.timeout(placed.PATIENCE):
                size = await (await self._remote()).has_blob(digest)
        except (SampanError, TimeoutError) as error:
            raise self._failure(error, _no_blob(digest)) from None
        if size is None:
            raise _no_blob(digest)
        return size

    async def _may_make_room(self, digest: Digest, size: int) -> bool:
        """Tell whether a blob may push others out: the upstream must know it, of this length.

        Else a manifest that tells of a blob that there is not would make us forget all we have.
        """
        if await self._shared.look(self._shared.eviction.has_room, self._name, size) is not False:
            return True
        try:
            async with asyncio.timeout(placed.PATIENCE):
                return await (await self._remote()).has_blob(digest) == size
        except (SampanError, TimeoutError):
            return False

    def _described(self, digest: Digest) -> int | None:
        """Return the length that a manifest of this repository tells of a blob."""
        registry = self._shared.registry
        row = registry.metadata.row(
            "SELECT manifest FROM parts WHERE repository = ? AND digest = ? AND kind = 'blob'",
            self._name,
            digest,
        )
        if row is None:
            return None
        try:
            document = parse_document(registry.driver.read(paths.blob(row[0])))
        except (FileNotFoundError, SampanError):
            return None
        parts = [*([document.config] if document.config else []), *(document.layers or [])]
        return next((part.size for part in parts if part.digest == digest), None)

    def _under_way(self, digest: Digest) -> Transfer | None:
        for transfer in self._shared.transfers.get(digest, ()):
            holder = transfer.place.repository
            if transfer.error is None and not transfer.overflows and self._may_share(holder):
                return transfer
        return None

    def _begin(self, digest: Digest, size: int, keeps: bool) -> Transfer:
        keeps = keeps and not self._shared.is_away
        transfer = Transfer(self.place, digest, size, keeps=keeps)
        self._shared.transfers.setdefault(digest, []).append(transfer)
        self._shared.tasks.start(self._transfer(transfer))
        return transfer

    async def _transfer(self, transfer: Transfer) -> None:
        shared, digest = self._shared, transfer.digest
        wanted = Descriptor(media_type=OCTETS, digest=digest, size=transfer.size)

        async def fetch(take: Callable[[memoryview], None], advance: Callable[[int], None]) -> None:
            async with shared.slots[self.place.upstream.name]:
                await (await self._remote()).fetch_blob(wanted, take, advance)
            self._count("pulled_bytes", BLOB, transfer.size)

        try:
            await transfer.run(shared.registry, shared.threads, fetch, shared.eviction)
        finally:
            running = shared.transfers[digest]
            running.remove(transfer)
            if not running:
                del shared.transfers[digest]


def _no_blob(digest: Digest) -> RegistryError:
    return RegistryError("BLOB_UNKNOWN", digest)
