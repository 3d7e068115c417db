"""Saving images: one tar that is Docker's archive and an OCI layout at once.

Source: moby daemon/internal/image/tarexport/save.go. The same images give the same bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.images.listing import created
from sampan.engine.images.store import Image, ImageStore
from sampan.engine.undisturbed import undisturbed
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import Digest, digest_of, encoded
from sampan.spec.image import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    MEDIA_CONFIG,
    MEDIA_LAYER,
    MEDIA_MANIFEST,
    ArchiveItem,
    Descriptor,
    Index,
    Manifest,
)
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any
from sampan.storage.intake import plain_layer
from sampan.storage.tar_writer import TarWriter, file_entry, folder_entry

_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


@dataclass(slots=True)
class _Chosen:
    image: Image
    references: list[Reference]


class Saving:
    """One save."""

    def __init__(self, store: ImageStore, names: Sequence[str], platform: Platform | None) -> None:
        self._store = store
        self._chosen: dict[str, _Chosen] = {}
        for name in names:
            self._choose(name, platform)
        self._written: set[str] = set()
        self._output = bytearray()
        self._tar = TarWriter(self._output.extend)

    def _choose(self, name: str, platform: Platform | None) -> None:
        meant = parse_any(name)
        if not isinstance(meant, str) and meant.is_name_only:
            tagged = self._store.tags_of(meant)
            for reference in tagged:
                self._add(self._store.find(str(reference), platform), reference)
            if tagged:
                return
        image = self._store.find(name, platform)
        by_name = not isinstance(meant, str) and self._store.named(meant) == image.id
        self._add(image, meant if by_name and not isinstance(meant, str) else None)

    def _add(self, image: Image, reference: Reference | None) -> None:
        if not image.config.diff_ids:
            raise InvalidArgument("empty export - not implemented")
        for diff_id in image.config.diff_ids:
            if diff_id not in self._store.layers:
                raise NotFound(f"layer {diff_id} of {image.id} is missing: the image is broken")
        chosen = self._chosen.setdefault(image.id, _Chosen(image, []))
        if reference and reference.tag and reference not in chosen.references:
            chosen.references.append(reference)

    def images(self) -> list[Image]:
        """Return the images that will be in the archive."""
        return [chosen.image for chosen in self._chosen.values()]

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Yield the archive."""
        self._tar.header(folder_entry("blobs"))
        self._tar.header(folder_entry("blobs/sha256"))
        items: list[ArchiveItem] = []
        descriptors: list[Descriptor] = []
        legacy: dict[str, dict[str, str]] = {}
        for chosen in self._chosen.values():
            async for data in self._layers(chosen.image):
                yield data
            items.append(self._item(chosen))
            descriptors += await self._manifest(chosen)
            for reference in chosen.references:
                top = encoded(Digest(chosen.image.config.diff_ids[-1]))
                legacy.setdefault(reference.familiar_name, {})[reference.tag] = top
        self._document("index.json", msgspec.json.encode(Index(manifests=descriptors)))
        self._document("manifest.json", msgspec.json.encode(items))
        self._document("oci-layout", _LAYOUT)
        if legacy:
            self._document("repositories", msgspec.json.encode(legacy))
        self._tar.close()
        yield self._take()

    async def _layers(self, image: Image) -> AsyncIterator[bytes]:
        for diff_id in image.config.diff_ids:
            if diff_id in self._written:
                continue
            self._written.add(diff_id)
            layer = self._store.layers[diff_id]
            name = f"blobs/sha256/{encoded(Digest(diff_id))}"
            self._tar.header(file_entry(name, layer.plain_size, created(image) or 0))
            self._tar.flush()
            yield self._take()
            chunks = plain_layer(self._store.content, Digest(layer.blob))
            try:
                while chunk := await undisturbed(_next, chunks):
                    yield chunk
            finally:
                chunks.close()
            self._tar.pad(layer.plain_size)

    async def _manifest(self, chosen: _Chosen) -> list[Descriptor]:
        """Write configuration and manifest; return what the index says of them."""
        image = chosen.image
        config = await blocking(self._store.content.read, Digest(image.id))
        self._blob(config, created(image) or 0)
        layers = [
            Descriptor(
                media_type=MEDIA_LAYER,
                digest=diff_id,
                size=self._store.layers[diff_id].plain_size,
            )
            for diff_id in image.config.diff_ids
        ]
        manifest = Manifest(
            config=Descriptor(media_type=MEDIA_CONFIG, digest=image.id, size=len(config)),
            layers=layers,
        )
        content = msgspec.json.encode(manifest)
        digest = self._blob(content, 0)
        references: Sequence[Reference | None] = chosen.references or [None]
        return [
            Descriptor(
                media_type=MEDIA_MANIFEST,
                digest=digest,
                size=len(content),
                annotations=None
                if reference is None
                else {ANNOTATION_IMAGE_NAME: str(reference), ANNOTATION_REF_NAME: reference.tag},
            )
            for reference in references
        ]

    def _item(self, chosen: _Chosen) -> ArchiveItem:
        image = chosen.image
        diff_ids = image.config.diff_ids
        return ArchiveItem(
            config=f"blobs/sha256/{encoded(Digest(image.id))}",
            repo_tags=[reference.familiar for reference in chosen.references] or None,
            layers=[f"blobs/sha256/{encoded(Digest(diff_id))}" for diff_id in diff_ids],
            parent=image.parent if image.parent in self._chosen else "",
        )

    def _blob(self, content: bytes, mtime: int) -> Digest:
        digest = digest_of(content)
        if digest not in self._written:
            self._written.add(digest)
            name = f"blobs/sha256/{encoded(digest)}"
            self._tar.add(file_entry(name, len(content), mtime), content)
        return digest

    def _document(self, name: str, content: bytes) -> None:
        self._tar.add(file_entry(name, len(content)), content)

    def _take(self) -> bytes:
        self._tar.flush()
        data = bytes(self._output)
        self._output.clear()
        return data


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")
