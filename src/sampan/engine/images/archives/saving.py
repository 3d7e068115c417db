"""Saving images: one tar that is Docker's archive and an OCI layout at once.

Source: moby daemon/internal/image/tarexport/save.go. The same images give the same bytes on every
engine: layers are uncompressed tars, and manifests are made anew from the configurations alone,
whatever registry or archive an image came from. So attestations stay behind: they are about
manifests that are not in the archive.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.images.model import Image
from sampan.engine.images.store import ImageStore, best
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import Digest, digest_of, encoded
from sampan.spec.image import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    MEDIA_CONFIG,
    MEDIA_INDEX,
    MEDIA_LAYER,
    MEDIA_MANIFEST,
    ArchiveItem,
    Descriptor,
    Index,
    Manifest,
)
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any
from sampan.storage.archives.tar_writer import TarWriter, file_entry, folder_entry

_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


@dataclass(slots=True)
class _Chosen:
    """What becomes one entry of the index: an image, or one for each of several platforms."""

    images: list[Image]
    references: list[Reference] = field(default_factory=list)

    @property
    def main(self) -> Image:
        """The image that readers get who know nothing of platforms."""
        return best(self.images, Platform.host()) or self.images[0]


class Saving:
    """One save."""

    def __init__(self, store: ImageStore, names: Sequence[str], platform: Platform | None) -> None:
        self._store = store
        self._chosen: dict[tuple[str, ...], _Chosen] = {}
        for name in names:
            self._choose(name, platform)
        self._ids = {image.id for image in self.images()}
        self._written: set[str] = set()
        self._output = bytearray()
        self._tar = TarWriter(self._output.extend)

    def _choose(self, name: str, platform: Platform | None) -> None:
        meant = parse_any(name)
        if not isinstance(meant, str) and meant.is_name_only:
            tagged = self._store.names.of_repository(meant)
            for reference in tagged:
                self._add(self._store.find_all(str(reference), platform), reference)
            if tagged:
                return
        images = self._store.find_all(name, platform)
        by_name = not isinstance(meant, str) and self._store.named(meant) is not None
        self._add(images, meant if by_name and not isinstance(meant, str) else None)

    def _add(self, images: list[Image], reference: Reference | None) -> None:
        for image in images:
            if not image.chains:
                raise InvalidArgument("empty export - not implemented")
            for diff_id in image.config.diff_ids:
                if self._store.layers.find(diff_id) is None:
                    raise NotFound(f"layer {diff_id} of {image.id} is missing: the image is broken")
        key = tuple(image.id for image in images)
        chosen = self._chosen.setdefault(key, _Chosen(images))
        if reference and reference.tag and reference not in chosen.references:
            chosen.references.append(reference)

    def images(self) -> list[Image]:
        """Return the images that will be in the archive."""
        found = {image.id: image for chosen in self._chosen.values() for image in chosen.images}
        return list(found.values())

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Yield the archive."""
        self._tar.header(folder_entry("blobs"))
        self._tar.header(folder_entry("blobs/sha256"))
        items: list[ArchiveItem] = []
        descriptors: list[Descriptor] = []
        legacy: dict[str, dict[str, str]] = {}
        for chosen in self._chosen.values():
            for image in chosen.images:
                async for data in self._layers(image):
                    yield data
            items.append(self._item(chosen))
            descriptors += await self._entries(chosen)
            for reference in chosen.references:
                top = encoded(Digest(chosen.main.config.diff_ids[-1]))
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
            size = self._plain_size(diff_id)
            name = f"blobs/sha256/{encoded(Digest(diff_id))}"
            self._tar.header(file_entry(name, size, image.created or 0))
            self._tar.flush()
            yield self._take()
            async with self._store.layers.packed(diff_id) as pieces:
                async for piece in pieces:
                    yield piece
            self._tar.pad(size)

    def _plain_size(self, diff_id: str) -> int:
        layer = self._store.layers.find(diff_id)
        if layer is None:
            raise NotFound(f"layer {diff_id} is missing")
        return layer.plain_size

    async def _entries(self, chosen: _Chosen) -> list[Descriptor]:
        """Write configurations and manifests; return what the index says of them, by name."""
        manifests = [await self._manifest(image) for image in chosen.images]
        entry = manifests[0]
        if len(manifests) > 1:
            for manifest, image in zip(manifests, chosen.images, strict=True):
                manifest.platform = image.config.platform_body
            content = msgspec.json.encode(Index(manifests=manifests))
            entry = Descriptor(
                media_type=MEDIA_INDEX, digest=self._blob(content, 0), size=len(content)
            )
        references: Sequence[Reference | None] = chosen.references or [None]
        return [
            entry if reference is None else _named(entry, reference) for reference in references
        ]

    async def _manifest(self, image: Image) -> Descriptor:
        config = await blocking(self._store.content.read, Digest(image.id))
        self._blob(config, image.created or 0)
        layers = [
            Descriptor(media_type=MEDIA_LAYER, digest=diff_id, size=self._plain_size(diff_id))
            for diff_id in image.config.diff_ids
        ]
        manifest = Manifest(
            config=Descriptor(media_type=MEDIA_CONFIG, digest=image.id, size=len(config)),
            layers=layers,
        )
        content = msgspec.json.encode(manifest)
        return Descriptor(
            media_type=MEDIA_MANIFEST, digest=self._blob(content, 0), size=len(content)
        )

    def _item(self, chosen: _Chosen) -> ArchiveItem:
        image = chosen.main
        diff_ids = image.config.diff_ids
        return ArchiveItem(
            config=f"blobs/sha256/{encoded(Digest(image.id))}",
            repo_tags=[reference.familiar for reference in chosen.references] or None,
            layers=[f"blobs/sha256/{encoded(Digest(diff_id))}" for diff_id in diff_ids],
            parent=image.parent if image.parent in self._ids else "",
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


def _named(entry: Descriptor, reference: Reference) -> Descriptor:
    annotations = {ANNOTATION_IMAGE_NAME: str(reference), ANNOTATION_REF_NAME: reference.tag}
    return msgspec.structs.replace(entry, annotations=annotations)
