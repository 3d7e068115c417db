"""What outputs of builds need of the engine: layers in other forms, registries, names for indexes.

Source: buildkit exporter/containerimage/export.go, util/push/push.go.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from sampan.distribution.credentials import Credentials
from sampan.distribution.repository import Repository
from sampan.distribution.uploads import Read
from sampan.engine.blocking import in_own_thread
from sampan.engine.images.distribution.departing import packed
from sampan.engine.images.distribution.shipping import Cargo, Shipping
from sampan.engine.images.feeding import from_task
from sampan.engine.images.images import Images
from sampan.engine.undisturbed import waited_for
from sampan.errors import NotFound, Upstream
from sampan.spec.digest import Digest, parse_digest
from sampan.spec.exports import GZIP, Compression, LayerPlace
from sampan.spec.image import Descriptor
from sampan.spec.reference import Reference
from sampan.storage.content import write_all

_PIECE: Final = 256 << 10


@dataclass(slots=True)
class Packed:
    """A layer in some form, in a file without a name."""

    descriptor: Descriptor
    fd: int

    def read(self, at: int, size: int) -> bytes:
        """Return a part of it."""
        return os.pread(self.fd, size, at)


class Exporting:
    """The engine as the outlet of builds; see build.exporting.outlet."""

    def __init__(self, images: Images) -> None:
        self._images, self._store = images, images.store

    def is_stored(self, layer: LayerPlace) -> bool:
        """Tell whether some registry has a layer, in whatever form."""
        return bool(self._store.layers.sources(layer.diff_id))

    async def measured(self, layer: LayerPlace, form: Compression) -> Descriptor:
        """Return what a layer is in some form; one that lies in a registry is not compressed."""
        if not form.force:
            for source in self._store.layers.sources(layer.diff_id):
                return Descriptor(
                    media_type=source.media_type, digest=source.digest, size=source.size
                )
        return await self._pack(layer, form, -1)

    @asynccontextmanager
    async def packed(self, layer: LayerPlace, form: Compression) -> AsyncIterator[Packed]:
        """Have a layer in some form."""
        fd = self._store.content.scratch()
        try:
            yield Packed(await self._pack(layer, form, fd), fd)
        finally:
            os.close(fd)

    async def _pack(self, layer: LayerPlace, form: Compression, into: int) -> Descriptor:
        """Compress a layer into a file, or into nothing (-1); return what that is."""
        digest, size = hashlib.sha256(), 0

        def copy(read: Read) -> None:
            nonlocal size
            while data := read(_PIECE):
                digest.update(data)
                size += len(data)
                if into >= 0:
                    write_all(into, data)

        chain = Digest(layer.chain)
        if chain not in self._store.layers.chains:
            raise NotFound(f"layer {layer.diff_id} is missing")
        with self._store.layers.wanted([chain]):
            async with packed(self._store.mounter, chain, lambda _: None, form) as read:
                await waited_for(in_own_thread(copy, read))
        found = Digest(f"sha256:{digest.hexdigest()}")
        return Descriptor(media_type=form.media_type, digest=found, size=size)

    def destination(self, reference: Reference, credentials: Credentials | None) -> Destination:
        """Return the repository that a reference is in, for a push."""
        repository, shipping = self._images.pushing.shipping(reference, credentials)
        return Destination(self, repository, shipping)

    def origin(self, reference: Reference, credentials: Credentials | None) -> Origin:
        """Return what a reference names in its registry, to read it."""
        registries = self._images.registries
        return Origin(registries.repository(reference.trimmed(), credentials), reference)

    async def record(
        self, configs: Sequence[bytes], documents: Sequence[bytes], names: Sequence[str]
    ) -> None:
        """Store images whose layers are there, with what is said of them, under names.

        The last of the documents is what the names stand for; without one it is the image.
        """
        store, target = self._store, None
        images = [await store.add(config, awaits_name=bool(names)) for config in configs]
        for document in documents:
            target = await store.add_document(document)
        for name in names:
            reference = Reference.parse(name).with_default_tag()
            await store.tag(images[0].id, reference, target)
            store.log("tag", images[0], reference.familiar)


class Destination:
    """One repository that images are pushed to; see build.exporting.outlet.Destination."""

    def __init__(self, exporting: Exporting, repository: Repository, shipping: Shipping) -> None:
        self._exporting, self._repository, self._shipping = exporting, repository, shipping

    async def layer(
        self, layer: LayerPlace, form: Compression, wanted: Descriptor | None = None
    ) -> Descriptor:
        """Have a layer there, `wanted` or else in some form; return what it is."""
        other = form != GZIP and (form.force or not self._exporting.is_stored(layer))
        if wanted is None and other:
            return await self._packed(layer, form)
        cargo = Cargo(parse_digest(layer.diff_id), Digest(layer.chain), wanted)
        shipped = await self._shipping.layer(cargo, _ignore)
        if wanted is not None and shipped.descriptor.digest != wanted.digest:
            with suppress(NotFound):
                found = await self._packed(layer, form)
                if found.digest == wanted.digest:
                    return wanted
            raise Upstream(f"layer {layer.diff_id} cannot be had as {wanted.digest} any more")
        return shipped.descriptor

    async def _packed(self, layer: LayerPlace, form: Compression) -> Descriptor:
        async with self._exporting.packed(layer, form) as made:
            if await self._repository.has_blob(parse_digest(made.descriptor.digest)) is None:
                os.lseek(made.fd, 0, os.SEEK_SET)
                await self._repository.upload_known(
                    made.descriptor, lambda size: os.read(made.fd, size), lambda _: None
                )
            return made.descriptor

    async def blob(self, descriptor: Descriptor, content: bytes) -> None:
        """Have a small blob there."""
        if await self._repository.has_blob(parse_digest(descriptor.digest)) is None:
            await self._repository.upload_known(
                descriptor, io.BytesIO(content).read, lambda _: None
            )

    async def manifest(self, descriptor: Descriptor, content: bytes, tag: str = "") -> None:
        """Store a manifest or index under its digest, or a tag."""
        name = tag or parse_digest(descriptor.digest)
        await self._repository.put_manifest(name, descriptor.media_type, content)


class Origin:
    """One name in a registry that is read; see build.remotecache.importing.Origin."""

    def __init__(self, repository: Repository, reference: Reference) -> None:
        self._repository = repository
        self._name = reference.digest or reference.with_default_tag().tag

    async def manifest(self, digest: str = "") -> tuple[Descriptor, bytes]:
        """Return a manifest or index: of a digest, or what the reference means."""
        found = await self._repository.manifest(parse_digest(digest) if digest else self._name)
        return found.descriptor, found.content

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give a blob; its digest and size are checked when it ends."""
        return from_task(lambda into: self._repository.fetch_blob(descriptor, into, _ignore))


def _ignore(_: object) -> None:
    """Tell nobody how far a layer is."""
