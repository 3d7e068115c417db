"""Loading images: what an archive holds becomes images, layer by layer, and gets its names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.images.archives.archives import Archive, Entry, Found
from sampan.engine.images.archives.importing import check_os, encode_config
from sampan.engine.images.archives.receiving import Part, Parts, Receiving
from sampan.engine.images.feeding import through_pipe
from sampan.engine.images.layers import chain_of
from sampan.engine.images.model import Image, Staged
from sampan.engine.images.reports import bar
from sampan.engine.images.store import ImageStore, best
from sampan.engine.undisturbed import ended, undisturbed
from sampan.errors import InvalidArgument
from sampan.spec.digest import Digest, chain_ids
from sampan.spec.docker.images import ProgressDetail, ProgressMessage
from sampan.spec.image import History, ImageConfig, RootFS, parse_config
from sampan.spec.names import short_id
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from sampan.storage.archives.compression import kind_of
from sampan.storage.archives.intake import KEPT, chunks_of, region

PIECE: Final = 1 << 20  # bytes read at once


class Loading:
    """One load: yields what Docker prints."""

    def __init__(self, store: ImageStore, *, quiet: bool, platform: Platform | None) -> None:
        self._store, self._quiet, self._platform = store, quiet, platform
        self._spool = -1
        self._wanted: list[str] = []
        self._parents: list[tuple[Image, str]] = []

    async def run(self, source: AsyncIterable[bytes]) -> AsyncGenerator[ProgressMessage, None]:
        """Add all images of an archive."""
        self._spool = await blocking(self._store.content.scratch)
        parts: Parts | None = None
        try:
            async with self._receiving(source) as (told, receiving):
                while (message := await told.get()) is not None:
                    yield message
                parts = await receiving
            archive = Archive(parts, self._spool)
            for entry in await undisturbed(archive.entries):
                async for message in self._entry(archive, entry):
                    yield message
            await self._link()
        finally:
            os.close(self._spool)
            self._store.layers.want_no_more(self._wanted)
            if parts:
                await self._discard_unused(parts)

    @asynccontextmanager
    async def _receiving(
        self, source: AsyncIterable[bytes]
    ) -> AsyncIterator[tuple[asyncio.Queue[ProgressMessage | None], asyncio.Task[Parts]]]:
        """Read the archive beside what is told of it; None is the last that is told."""
        told: asyncio.Queue[ProgressMessage | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def advance(name: str, current: int, total: int) -> None:
            if not self._quiet:
                message = _progress(_label(name), current, total)
                loop.call_soon_threadsafe(told.put_nowait, message)

        # Which layers a platform needs is known at the end of the archive: then all are spooled.
        eager = self._platform is None and await blocking(self._store.layers.stands_alone)
        layers, content = self._store.layers, self._store.content
        one = Receiving(content, layers, self._spool, eager=eager, advance=advance)
        self._wanted = one.wanted
        task = asyncio.ensure_future(through_pipe(source, one.run))
        task.add_done_callback(lambda _: told.put_nowait(None))
        try:
            yield told, task
        finally:
            task.cancel()
            await ended(task)

    async def _discard_unused(self, parts: Parts) -> None:
        """Remove layers of the archive that no image has: they need not wait for a next attempt."""
        for part in parts.layers:
            if part.staged and self._store.layers.is_waiting(part.staged):
                await self._store.layers.discard(part.staged)
            if part.blob and self._store.layers.diff_id_of(part.blob) is None:
                self._store.reclaiming.collect_later()

    async def _entry(self, archive: Archive, entry: Entry) -> AsyncIterator[ProgressMessage]:
        """Add an image, or the images of an index, and name them."""
        images: list[Image] = []
        for found in entry.images:
            config = None if found.legacy else parse_config(found.config)
            if config and not self._is_wanted(config, alone=len(entry.images) == 1):
                continue
            diff_ids: list[Digest] = []
            with self._store.layers.wanted(chain_ids(config.diff_ids) if config else ()):
                async for message in self._layers(found, config, diff_ids):
                    yield message
                steps = found.legacy
                document = _modern(steps, list(diff_ids)) if steps else found.config
                image = await self._store.add(document, awaits_name=bool(entry.names))
            images.append(image)
            self._parents.append((image, found.parent))
        if not images:
            return
        target = entry.target if entry.names else None  # nobody could ask for it
        for digest, part in entry.blobs if target else ():
            await undisturbed(self._store.content.ingest, self._chunks(part), digest)
        main = best(images, Platform.host()) or images[0]
        for name in entry.names:
            async for message in self._name(main, name, target):
                yield message
        for image in images:
            self._store.log("load", image, image.id)
        if not entry.names:
            for image in images:
                yield ProgressMessage(stream=f"Loaded image ID: {image.id}\n")

    def _is_wanted(self, config: ImageConfig, *, alone: bool) -> bool:
        if config.os not in ("", "linux"):
            if alone:
                raise InvalidArgument(f"cannot load {config.os} image on linux")
            return False
        return self._platform is None or self._platform.runs(config.platform)

    # --- layers ----------------------------------------------------------------------------

    async def _layers(
        self, found: Found, config: ImageConfig | None, diff_ids: list[Digest]
    ) -> AsyncIterator[ProgressMessage]:
        """Put the layers in their places that are not there yet; collect their diff ids."""
        expected = config.diff_ids if config else [None] * len(found.layers)
        if len(expected) != len(found.layers):
            raise InvalidArgument(
                "invalid manifest, layers length mismatch:"
                f" expected {len(found.layers)}, got {len(expected)}"
            )
        parent: Digest | None = None
        for place, (wanted, part) in enumerate(zip(expected, found.layers, strict=True)):
            chain = chain_of(parent, Digest(wanted)) if wanted else None
            if wanted is None or chain not in self._store.layers.chains:
                if part is None:
                    raise InvalidArgument(f"invalid archive: layer {place} is missing")
                if tells := not self._quiet and not part.is_layer:
                    yield _progress(_label(wanted or part.name), 0, part.size)
                staged = await self._stage(part, wanted, parent)
                if wanted is not None and staged.diff_id != wanted:
                    await self._store.layers.discard(staged)
                    raise InvalidArgument(
                        f"invalid diffID for layer {place}:"
                        f' expected "{wanted}", got "{staged.diff_id}"'
                    )
                wanted = staged.diff_id
                # A lease is for what is found again by a digest, before it comes.
                lease = part is not None and part.digest is not None
                chain = await self._store.layers.commit(staged, parent, lease=lease)
                if tells:
                    yield _progress(_label(wanted), part.size, part.size)
            if part is not None:
                await self._keep(part, wanted)
            diff_ids.append(Digest(wanted))
            parent = chain

    async def _stage(self, part: Part, diff_id: str | None, parent: Digest | None) -> Staged:
        """Return a layer of the archive, staged."""
        if part.error:
            raise part.error
        if part.staged:
            return part.staged
        if part.known:
            return await self._store.layers.stage_copy(part.known, parent)
        digest = None if diff_id is None else Digest(diff_id)
        pieces = _pieces(self._spool, part.offset, part.size)
        return await self._store.layers.stage(pieces, digest, parent)

    async def _keep(self, part: Part, diff_id: str) -> None:
        """Keep the archive of a compressed layer: nothing else has its digest."""
        layer = self._store.layers.find(diff_id)
        if layer is None or layer.blob or part.known:
            return
        blob, media_type = part.blob, part.media_type
        if not part.is_layer:
            media_type = KEPT.get(kind_of(os.pread(self._spool, 8, part.offset)), "")
            if media_type:
                chunks = self._chunks(part)
                blob = await undisturbed(self._store.content.ingest, chunks, part.digest)
        if blob:
            await self._store.layers.keep_archive(diff_id, blob, part.size, media_type)

    def _chunks(self, part: Part) -> Iterator[bytes]:
        return chunks_of(region(self._spool, part.offset, part.size))

    # --- names -----------------------------------------------------------------------------

    async def _name(
        self, image: Image, name: str, target: Digest | None
    ) -> AsyncIterator[ProgressMessage]:
        reference = Reference.parse(name)
        if not reference.tag:
            raise InvalidArgument(f'invalid tag "{name}"')
        old = self._store.named(reference)
        same = old is not None and target is not None and old.target == target
        if old is not None and old.image != image.id and not same:
            yield ProgressMessage(
                stream=f"The image {reference.familiar} already exists, renaming the old one"
                f" with ID {old.image} to empty string\n"
            )
        await self._store.tag(image.id, reference, target)
        yield ProgressMessage(stream=f"Loaded image: {reference.familiar}\n")

    async def _link(self) -> None:
        """Note the parents that came in the same archive, where their histories agree."""
        images = {image.id: image for image, _ in self._parents}
        for image, parent in self._parents:
            if parent in images and _is_parent(images[parent].config, image.config):
                await self._store.set_parent(image.id, parent)


async def _pieces(fd: int, offset: int, size: int) -> AsyncIterator[bytes]:
    end = offset + size
    while offset < end:
        data = await undisturbed(os.pread, fd, min(PIECE, end - offset), offset)
        if not data:
            raise InvalidArgument("invalid archive: unexpected end")
        offset += len(data)
        yield data


def _label(name: str) -> str:
    """Return what a layer is called while it comes: the start of the digest in its name."""
    name = name.removesuffix("/layer.tar").removesuffix(".tar")
    return short_id(name.rpartition("/")[2])


def _progress(label: str, current: int, total: int) -> ProgressMessage:
    return ProgressMessage(
        status="Loading layer",
        progress_detail=ProgressDetail(current=current, total=total),
        progress=bar(current, total),
        id=label,
    )


def _is_parent(parent: ImageConfig, child: ImageConfig) -> bool:
    before, after = parent.history or [], child.history or []
    return (not before and not after) or (
        len(after) - len(before) == 1 and after[: len(before)] == before
    )


def _modern(steps: list[dict[str, Any]], diff_ids: list[str]) -> bytes:
    """Return a configuration of today for an image of Docker 1.9 or older."""
    top = {
        name: value
        for name, value in steps[-1].items()
        if name in ("architecture", "os", "created", "author", "config", "comment")
    }
    try:
        document = msgspec.convert(top, ImageConfig)
        document.history = [msgspec.convert(_step(step), History) for step in steps]
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid image JSON: {error}") from error
    check_os(document.os)
    document.rootfs = RootFS(diff_ids=diff_ids)
    return encode_config(document)


def _step(step: dict[str, Any]) -> dict[str, Any]:
    config = step.get("container_config")
    command = config.get("Cmd") if isinstance(config, dict) else None
    words = [word for word in command or [] if isinstance(word, str)]
    named = {name: step.get(name) or "" for name in ("author", "comment")}
    return {**named, "created": step.get("created"), "created_by": " ".join(words)}
