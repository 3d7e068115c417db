"""The layers of an engine: unpacked once, staged, put on their parents, and read back.

A layer comes in by `stage` (or `stage_stream`) and becomes the snapshot of its chain id by
`commit`. Until an image needs it, a *lease* keeps it for a day, so that what an interrupted pull
or load had completed is there for the next attempt. The lease is written before the snapshot: a
snapshot that has neither a lease nor an image is left over, whenever the daemon ended.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from sampan.engine.blocking import blocking, in_own_thread
from sampan.engine.images.database import Chain, ImageDatabase
from sampan.engine.images.feeding import from_pipe, through_pipe
from sampan.engine.images.holds import Holds
from sampan.engine.images.model import Layer, Source, Staged
from sampan.engine.undisturbed import ended, undisturbed, waited_for
from sampan.errors import Conflict, NotFound, SampanError
from sampan.rpc import Fd
from sampan.spec.digest import EMPTY_LAYER, Digest, digest_of, encoded
from sampan.storage.archives.compression import plain_chunks
from sampan.storage.content import ContentStore, write_all
from sampan.storage.mounter import Mounter, SnapshotInfo, Unpacked

_SOURCES: Final = 16  # of one layer; the oldest goes


class Layers(Holds):
    """Belongs to one event loop. Reading never waits; a change is durable before it shows."""

    def __init__(self, mounter: Mounter, content: ContentStore, database: ImageDatabase) -> None:
        super().__init__(database)
        self.mounter, self.content = mounter, content
        self.chains: dict[Digest, Chain] = {}  # by chain id
        self._places: defaultdict[str, set[Digest]] = defaultdict(set)  # chain ids, by diff id
        self._layers: dict[str, Layer] = {layer.diff_id: layer for layer in database.layers()}
        self._sources: defaultdict[str, list[Source]] = defaultdict(list)
        self._digests: dict[Digest, Digest] = {}  # of archives, to diff ids
        self._staged: dict[str, Staged] = {}  # by the key of the snapshot
        self._alone: bool | None = None  # it is asked once
        self.freed = 0  # bytes of all layers that have gone since the start
        self._leaving: dict[str, asyncio.Future[None]] = {}  # chain ids that are being removed
        self._arriving: dict[str, asyncio.Future[Staged]] = {}
        self._placing: dict[str, asyncio.Future[None]] = {}  # chain ids, keys of staged layers
        for chain in database.chains():
            self._place(chain)
        for diff_id, source in database.sources():
            self._sources[diff_id].append(source)
            self._digests[source.digest] = Digest(diff_id)
        for layer in self.kept():
            if layer.blob:
                self._digests[layer.blob] = layer.diff_id

    def _place(self, chain: Chain) -> None:
        self.chains[chain.chain_id] = chain
        self._places[chain.diff_id].add(chain.chain_id)

    # --- reading ---------------------------------------------------------------------------

    def size(self, chain: str) -> int:
        """Return the bytes of the files of a layer in its place; 0 if it is not there."""
        found = self.chains.get(Digest(chain))
        return found.size if found else 0

    def find(self, diff_id: str) -> Layer | None:
        """Return a layer that lies in some chain."""
        return self._layers.get(diff_id) if self._places.get(diff_id) else None

    def kept(self) -> list[Layer]:
        """Return the layers whose archives are in the content store."""
        return [layer for layer in self._layers.values() if layer.blob]

    def sources(self, diff_id: str) -> list[Source]:
        """Return where compressed forms of a layer lie, newest first."""
        return self._sources.get(diff_id, [])[::-1]

    def diff_id_of(self, digest: Digest) -> Digest | None:
        """Return the diff id of a layer that is here, by that or by the digest of an archive."""
        diff_id = self._digests.get(digest, digest)
        return diff_id if self.find(diff_id) else None

    def staged(self, digest: Digest, diff_id: str | None = None) -> Staged | None:
        """Return a layer that was staged under `digest` (of its archive, or its diff id).

        With `diff_id`, only if that is its content; an archive's digest is the word of whoever
        staged it, the diff id was computed while it was unpacked.
        """
        found = self._staged.get(staged_key(digest))
        return found if found and diff_id in (None, found.diff_id) else None

    def is_waiting(self, staged: Staged) -> bool:
        """Tell whether a staged layer has not been put anywhere yet."""
        return staged.key in self._staged

    def waiting(self) -> list[Staged]:
        """Return all staged layers."""
        return list(self._staged.values())

    @asynccontextmanager
    async def packed(self, diff_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the uncompressed tar of a layer, byte for byte; NotFound if it is nowhere.

        What is wrong with it is raised at the end: whoever reads has nothing before that.
        """
        chain = next(iter(self._places.get(diff_id, ())), None)
        if chain is None:
            raise NotFound(f"layer {diff_id} is missing")
        blob = self._layers[diff_id].blob
        with self.wanted([chain]):
            async with from_pipe(lambda fd: self._pack(fd, chain, blob)) as pieces:
                yield pieces

    def _pack(self, fd: int, chain: Digest, blob: Digest | None) -> None:
        try:
            self.mounter.pack_layer(chain, Fd(fd))
        except NotFound:
            if blob is None:
                raise
            # A snapshot of an older engine: it kept the archive of every layer.
            with open(self.content.open(blob), "rb", buffering=0) as file:
                for chunk in plain_chunks(file.read):
                    write_all(fd, chunk)

    # --- coming in -------------------------------------------------------------------------

    def stands_alone(self) -> bool:
        """Layers can be staged in any order and at once; else each needs its parent."""
        if self._alone is None:
            self._alone = self.mounter.layers_stand_alone()
        return self._alone

    async def stage(
        self,
        source: AsyncIterable[bytes] | int,
        digest: Digest | None = None,
        parent: Digest | None = None,
    ) -> Staged:
        """Unpack the archive (any compression) that `source` gives, under the name `digest`.

        `source` is a stream, or a descriptor that is read to its end: a pipe, whose writer must
        end by himself when the caller is cancelled, or a file. If a stream raises (because its
        digest is not the announced one, say), that is raised and nothing stays.
        `digest` is the archive's or the diff id; without it nobody finds the layer again, and it
        goes with the intake that it came in. What is staged under it already is returned, and
        `source` is not read. `parent` is needed where layers do not stand alone.
        """
        key = f"staged-{secrets.token_hex(16)}"
        if digest:
            tied = parent is not None and not await blocking(self.stands_alone)
            key = staged_key(chain_of(parent, digest) if tied else digest)
        while other := self._arriving.get(key):
            await asyncio.wait([other])
        if there := self._staged.get(key):
            return there
        arriving = asyncio.ensure_future(self._stage(source, key, parent, lease=digest is not None))
        self._arriving[key] = arriving
        try:
            return await asyncio.shield(arriving)
        except asyncio.CancelledError:
            arriving.cancel()
            await ended(arriving)
            raise
        finally:
            del self._arriving[key]

    async def _stage(
        self, source: AsyncIterable[bytes] | int, key: str, parent: Digest | None, *, lease: bool
    ) -> Staged:
        if lease:
            await self._lease(key)
        try:
            unpacked = await self._unpack(source, key, parent)
        except BaseException:
            with suppress(SampanError):  # else the next collection takes it
                await undisturbed(self.mounter.remove, key)
            raise
        staged = Staged(key, Digest(unpacked.diff_id), unpacked.plain_size, unpacked.size)
        self._staged[key] = staged
        return staged

    async def _unpack(
        self, source: AsyncIterable[bytes] | int, key: str, parent: Digest | None
    ) -> Unpacked:
        def unpack(fd: int) -> Unpacked:
            return self.mounter.unpack(Fd(fd), key, parent)

        if isinstance(source, int):
            return await waited_for(in_own_thread(unpack, source))
        return await through_pipe(source, unpack)

    async def capture(self, container: str) -> Staged | None:
        """Stage what a container has written, without a copy; None if that is nothing.

        Its snapshot is of no use afterwards. Raises Unsupported where there has to be a copy.
        """
        key = f"staged-{secrets.token_hex(16)}"
        unpacked = await undisturbed(self.mounter.capture, container, key)
        if unpacked.diff_id == EMPTY_LAYER:
            return None
        staged = Staged(key, Digest(unpacked.diff_id), unpacked.plain_size, unpacked.size)
        self._staged[key] = staged
        return staged

    async def stage_copy(self, diff_id: str, parent: Digest | None = None) -> Staged:
        """Stage a layer that lies in another chain: it is written from there and read again."""
        async with self.packed(diff_id) as pieces:
            return await self.stage(pieces, Digest(diff_id), parent)

    async def discard(self, staged: Staged) -> None:
        """Remove a staged layer that is not what it should be."""
        self._staged.pop(staged.key, None)
        await undisturbed(self.mounter.remove, staged.key)
        self.freed += staged.size

    async def commit(self, staged: Staged, parent: Digest | None, *, lease: bool = True) -> Digest:
        """Put a staged layer on its parent; return the chain id that this makes.

        It is there until the intake has ended; with `lease` for a day more, or as long as an
        image needs it. Once begun it is done to the end: a layer that is there is not lost again
        because its client has gone.
        """
        return await waited_for(self._commit(staged, parent, lease=lease))

    async def _commit(self, staged: Staged, parent: Digest | None, *, lease: bool) -> Digest:
        chain_id = chain_of(parent, staged.diff_id)
        async with self._turn(staged.key, chain_id):
            return await self._into_place(staged, chain_id, parent, lease=lease)

    @asynccontextmanager
    async def _turn(self, key: str, chain_id: Digest) -> AsyncIterator[None]:
        """Wait for others that place or remove the same layer: what they know must be true."""
        known = self._placing
        while busy := {known.get(key), known.get(chain_id), self._leaving.get(chain_id)} - {None}:
            await asyncio.wait([one for one in busy if one])
        done = asyncio.get_running_loop().create_future()
        known[key] = known[chain_id] = done
        try:
            yield
        finally:
            del known[key], known[chain_id]
            done.set_result(None)

    async def _into_place(
        self, staged: Staged, chain_id: Digest, parent: Digest | None, *, lease: bool
    ) -> Digest:
        chain = Chain(chain_id, staged.diff_id, staged.size)
        if chain_id not in self.chains:
            now = time.time_ns()
            layer = Layer(staged.diff_id, staged.plain_size)
            await blocking(self._database.add_layer, layer, chain, now if lease else None)
            if lease:
                self.leases[chain_id] = now
            self._layers.setdefault(layer.diff_id, layer)
        elif lease:
            await self._lease(chain_id)
        try:
            await self._put(staged, chain_id, parent)
        except BaseException:
            if chain_id not in self.chains:
                await blocking(self._database.delete_chain, chain_id)
                self.leases.pop(chain_id, None)
            raise
        self._staged.pop(staged.key, None)
        self._place(chain)
        return chain_id

    async def _put(self, staged: Staged, chain_id: Digest, parent: Digest | None) -> None:
        try:
            await undisturbed(self.mounter.commit, staged.key, chain_id, parent)
        except NotFound:
            # Another intake has put the same staged layer on another parent meanwhile.
            self._staged.pop(staged.key, None)
            if not self._places.get(staged.diff_id):
                raise
            async with self.packed(staged.diff_id) as pieces:
                copy = await self.stage(pieces, parent=parent)  # that nobody else finds and takes
            await undisturbed(self.mounter.commit, copy.key, chain_id, parent)
            self._staged.pop(copy.key, None)

    async def keep_archive(self, diff_id: str, blob: Digest, size: int, media_type: str) -> None:
        """Note that the content store keeps the archive of a layer: nothing else has its digest."""
        layer = replace(self._layers[diff_id], blob=blob, blob_size=size, media_type=media_type)
        await blocking(self._database.keep_archive, layer)
        self._layers[diff_id] = layer
        self._digests[blob] = layer.diff_id

    async def forget_archive(self, diff_id: str) -> None:
        """Note that the archive of a layer is gone."""
        await blocking(self._database.forget_archive, diff_id)
        layer = self._layers[diff_id]
        if layer.blob:
            self._digests.pop(layer.blob, None)
        self._layers[diff_id] = replace(layer, blob=None, blob_size=0, media_type="")

    async def add(self, layer: Layer, chain: Chain) -> None:
        """Note a layer that is in its place already."""
        await blocking(self._database.add_layer, layer, chain, None)
        self._layers.setdefault(layer.diff_id, layer)
        self._place(chain)

    async def note_source(self, diff_id: str, source: Source) -> None:
        """Remember where a compressed form of a layer lies."""
        known = self._sources[diff_id]
        if known and known[-1] == source:
            return
        await blocking(self._database.add_source, diff_id, source)
        self._digests[source.digest] = Digest(diff_id)
        known[:] = [*(one for one in known if one != source), source]
        for old in known[:-_SOURCES]:
            await blocking(self._database.delete_source, diff_id, old)
        del known[:-_SOURCES]

    async def want_known(self, digest: Digest) -> Digest | None:
        """Return the diff id of a layer that is here, as `diff_id_of`; then it is wanted."""
        if diff_id := self.diff_id_of(digest):
            self._wanted[diff_id] += 1
        return diff_id

    def is_held(self, chain: str) -> bool:
        """Tell whether somebody wants a layer, or has a lease on it."""
        place = self.chains.get(Digest(chain))
        wanted = chain in self._wanted or (place is not None and place.diff_id in self._wanted)
        return wanted or chain in self.leases or self.cached[chain] > 0

    # --- going -----------------------------------------------------------------------------

    async def found(self, snapshots: Iterable[SnapshotInfo]) -> None:
        """Compare what is known with the snapshots that there are.

        Leases on nothing end, and staged layers without a lease go.
        """
        infos = {info.key: info for info in snapshots}
        await self.end_leases([key for key in self.leases if key not in infos])
        self._staged = {}
        for info in infos.values():
            if info.kind == "staged":
                if info.key in self.leases:
                    staged = Staged(info.key, Digest(info.diff_id), info.plain_size, info.size)
                    self._staged[info.key] = staged
                else:
                    await blocking(self.mounter.remove, info.key)
                    self.freed += info.size

    async def remove(self, chain: Digest) -> bool:
        """Remove a layer from its place; False if something stands on it.

        It is out of sight before anything else can happen: nobody shall rely on it any more.
        """
        place = self.chains.pop(chain, None)
        if place:
            self._places[place.diff_id].discard(chain)
        self._leaving[chain] = asyncio.get_running_loop().create_future()
        return await waited_for(self._remove(chain, place))

    async def _remove(self, chain: Digest, place: Chain | None) -> bool:
        try:
            await blocking(self.mounter.remove, chain)
            self.freed += place.size if place else 0
            await self.forget(chain)
        except BaseException as error:
            if place:
                self._place(place)
            if isinstance(error, Conflict):
                return False
            raise
        finally:
            self._leaving.pop(chain).set_result(None)
        return True

    async def forget(self, chain: Digest) -> None:
        """Note that a layer is not in its place any more."""
        await blocking(self._database.delete_chain, chain)
        self.leases.pop(chain, None)
        if gone := self.chains.pop(chain, None):
            self._places[gone.diff_id].discard(chain)

    async def forget_unplaced(self) -> None:
        """Forget everything of layers that lie nowhere any more."""
        for diff_id in [diff_id for diff_id in self._layers if not self._places.get(diff_id)]:
            await blocking(self._database.delete_layer, diff_id)
            self._layers.pop(diff_id, None)
            for digest in [key for key, known in self._digests.items() if known == diff_id]:
                del self._digests[digest]
            self._sources.pop(diff_id, None)
            self._places.pop(diff_id, None)


def staged_key(digest: Digest) -> str:
    """Return the key of the snapshot that a layer is staged as."""
    return f"staged-{encoded(digest)[:64]}"


def chain_of(parent: Digest | None, diff_id: Digest) -> Digest:
    """Return the chain id of a layer on a parent."""
    return diff_id if parent is None else digest_of(f"{parent} {diff_id}".encode())
