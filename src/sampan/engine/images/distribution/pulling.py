"""Pulling images from registries.

A name's manifest or index is read first, then the configuration of the image for the wanted
platform; its layers come all at once and are put on each other in order. The image shows when all
is there and checked; what an interrupted pull had completed is leased, so the next one goes on.

Source: moby daemon/internal/distribution/pull.go, pull_v2.go.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.engine.images.archives.importing import check_os
from sampan.engine.images.distribution.arriving import Arrived, Arriving, tell_extracting
from sampan.engine.images.distribution.choosing import Choosing, Chosen
from sampan.engine.images.distribution.transfers import Slots, Tell, TransferRequest
from sampan.engine.images.model import Emit, Image, Source, Staged
from sampan.engine.images.reports import Report
from sampan.engine.images.store import ImageStore
from sampan.engine.registries import read_config
from sampan.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unauthorized, Upstream
from sampan.spec.digest import Digest, algorithm, chain_ids, parse_digest
from sampan.spec.image import Descriptor, parse_config
from sampan.spec.names import short_id
from sampan.spec.reference import Reference

_ATTEMPTS: Final = 3  # to have one layer while others remove it


@dataclass(slots=True)
class _Place:
    """Where a layer of one image belongs."""

    layer: Descriptor
    diff_id: Digest
    chain: Digest
    parent: Digest | None
    ready: asyncio.Event = field(default_factory=asyncio.Event)  # set when it is there


class Pulling:
    """The pulls of one engine."""

    def __init__(self, store: ImageStore, registries: Registries, slots: Slots, emit: Emit) -> None:
        self._store, self._registries, self._emit = store, registries, emit
        self._arriving = Arriving(store, slots)
        self._putting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def pull(self, request: TransferRequest, report: Report) -> None:
        """Fetch what a name means: one image, or without a tag and a digest all tags.

        Raises NotFound, Unauthorized, InvalidArgument, Upstream. Emits `pull`.
        """
        reference = request.reference
        repository = self._registries.repository(reference.trimmed(), request.credentials)
        changed = False
        async with self._store.intake():
            if reference.is_name_only:
                for tag in await repository.tags():
                    changed |= await self._one(repository, reference.with_tag(tag), request, report)
            else:
                changed = await self._one(repository, reference, request, report)
        what = "Downloaded newer image" if changed else "Image is up to date"
        report.say(f"Status: {what} for {reference.familiar}")
        self._finish(request, report)

    def _finish(self, request: TransferRequest, report: Report) -> None:
        """Warn of an image that is for another platform than the wanted one, and emit `pull`."""
        reference = request.reference
        try:
            labels = self._store.find(str(reference)).labels
        except NotFound:
            labels = {}  # of all tags, none may be the default one
        else:
            self._warn(request, report)
        attributes = {**labels, "name": reference.familiar_name}
        self._emit("pull", reference.familiar, attributes)

    def _warn(self, request: TransferRequest, report: Report) -> None:
        if request.platform is not None:
            try:
                self._store.find(str(request.reference), request.platform)
            except NotFound as error:
                report.say(f"WARNING: {error}")

    async def _one(
        self, repository: Repository, reference: Reference, request: TransferRequest, report: Report
    ) -> bool:
        """Fetch what a tag or a digest means; tell whether something is new."""
        if reference.digest is not None:
            name, shown = reference.trimmed().with_digest(reference.digest), str(reference)
        else:
            name, shown = reference, reference.tag
        known = self._store.named(name)
        choosing = Choosing(self._store.documents, repository)
        top = await choosing.top(name.digest or name.tag, known.target if known else None)
        report.say(f"Pulling from {reference.path}", shown)
        chosen = await choosing.image(top, request.platform)
        image = await self._image(repository, chosen, report)
        await self._note_sources(repository, chosen.layers, image)
        target = parse_digest(top.descriptor.digest)
        report.say(f"Digest: {target}")
        for digest, content in chosen.documents.items():
            await self._store.documents.add(content, digest)
        for wanted in dict.fromkeys((name.trimmed().with_digest(target), name)):
            old = self._store.named(wanted)
            if old is None or (old.image, old.target) != (image.id, target):
                await self._store.tag(image.id, wanted, target)
        return known is None or known.image != image.id

    async def _image(self, repository: Repository, chosen: Chosen, report: Report) -> Image:
        """Return the image of a manifest, after fetching what is missing of it."""
        if there := await self._store.take(chosen.config.digest):
            return there
        content = await read_config(repository, chosen.config)
        digest = parse_digest(chosen.config.digest)
        if algorithm(digest) != "sha256":  # it is stored under its own name, too, for a push
            await self._store.documents.add(content, digest)
        config = parse_config(content)
        check_os(config.os)
        diff_ids = [parse_digest(diff_id) for diff_id in config.diff_ids]
        if len(diff_ids) != len(chosen.layers):
            raise InvalidArgument("layers from manifest don't match image configuration")
        with self._store.layers.wanted(chain_ids(diff_ids)):
            await self._layers(repository, chosen.layers, diff_ids, report)
            return await self._store.add(content, awaits_name=True)

    async def _note_sources(
        self, repository: Repository, layers: Sequence[Descriptor], image: Image
    ) -> None:
        """Remember where the layers lie, so that the image can be pushed as it was."""
        for layer, diff_id in zip(layers, image.config.diff_ids, strict=False):
            digest = parse_digest(layer.digest)
            source = Source(repository.reference.name, digest, layer.size, layer.media_type)
            await self._store.layers.note_source(diff_id, source)

    async def _layers(
        self,
        repository: Repository,
        layers: Sequence[Descriptor],
        diff_ids: Sequence[Digest],
        report: Report,
    ) -> None:
        """Have all layers in their places."""
        chains = list(chain_ids(diff_ids))
        parents = [None, *chains][: len(chains)]
        places = [_Place(*each) for each in zip(layers, diff_ids, chains, parents, strict=True)]
        for place in places:
            there = place.chain in self._store.layers.chains
            if there:
                place.ready.set()
            name = short_id(place.layer.digest)
            report.update(name, "Already exists" if there else "Pulling fs layer")
        try:
            async with asyncio.TaskGroup() as group:
                fetched: set[str] = set()
                for number, place in enumerate(places):
                    below = places[number - 1].ready if number else None
                    if not place.ready.is_set():
                        again = place.diff_id in fetched
                        group.create_task(self._layer(repository, place, below, report, again))
                        fetched.add(place.diff_id)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _layer(
        self,
        repository: Repository,
        place: _Place,
        below: asyncio.Event | None,
        report: Report,
        again: bool,
    ) -> None:
        """Fetch one layer and put it on what is below it, when that is there.

        With `again`, the same layer comes earlier in this image: it is copied from there.
        """
        if again or self._store.layers.find(place.diff_id):
            with suppress(NotFound, InvalidArgument):  # it has gone, or is not what it was
                await self._put(place, below, report, None)
                return

        mine, failure = False, None

        async def fetch(tell: Tell) -> Arrived:
            nonlocal mine
            mine = True
            return await self._arriving.fetch(repository, place.layer, place.diff_id, tell)

        transfers, digest = self._arriving.transfers, place.layer.digest
        for _ in range(_ATTEMPTS):
            try:
                async with transfers.sharing(digest, fetch, report) as arrived:
                    if await self._is_put(place, below, report, arrived):
                        return
                    transfers.forget(digest)
            except (NotFound, Unauthorized, Forbidden, Upstream) as error:
                if mine:
                    raise
                failure = error  # it was fetched with the rights of somebody else: try with ours
        raise failure or Conflict(f"layer {place.diff_id} is removed as often as it comes")

    async def _is_put(
        self, place: _Place, below: asyncio.Event | None, report: Report, arrived: Arrived
    ) -> bool:
        """Put a layer in its place; False if others have put it elsewhere and then removed it."""
        try:
            await self._put(place, below, report, arrived)
        except NotFound:
            return False
        return True

    async def _put(
        self, place: _Place, below: asyncio.Event | None, report: Report, arrived: Arrived | None
    ) -> None:
        if below is not None:
            await below.wait()
        tell_extracting(report, place.layer)
        async with self._putting[place.chain]:
            try:
                if place.chain not in self._store.layers.chains:
                    staged = await self._staged(place, arrived)
                    if staged.diff_id != place.diff_id:  # others may want it as it is
                        raise Upstream("layers from manifest don't match image configuration")
                    await self._store.layers.commit(staged, place.parent)
            finally:
                self._putting.pop(place.chain, None)
        place.ready.set()
        report.update(short_id(place.layer.digest), "Pull complete")

    async def _staged(self, place: _Place, arrived: Arrived | None) -> Staged:
        if arrived is None:
            return await self._store.layers.stage_copy(place.diff_id, place.parent)
        if arrived.staged is not None:
            return arrived.staged
        return await self._arriving.unpack(arrived, place.parent)
