"""Caches that are stored elsewhere, as a build uses them.

A step that such a cache knows is taken from it if the layers below are those that the build has;
then one layer is fetched, and its digests are checked. Nothing else of a cache is believed, and
what came from one counts for the builds that name it, not for others.

Source: buildkit cache/remotecache/import.go.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from sampan.build.caching.cache import Record
from sampan.build.remotecache.records import (
    INLINE,
    LIMIT,
    MEDIA_CACHE,
    Blob,
    blob_of,
    parse_inline,
    parse_records,
)
from sampan.errors import InvalidArgument, SampanError
from sampan.spec.digest import chain_id
from sampan.spec.image import Descriptor, Document, ImageConfig, parse_document

log = logging.getLogger(__name__)
_IMAGES: Final = 64  # manifests of one index that are looked at


class Origin(Protocol):
    """Where a cache is stored."""

    async def manifest(self, digest: str = "") -> tuple[Descriptor, bytes]:
        """Return a manifest or index: of a digest, or what the origin's own name means."""

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give a blob; its digest and size are checked when it ends."""


class Bringing(Protocol):
    """Whoever puts layers on each other."""

    def has_layer(self, chain: str) -> bool:
        """Tell whether a layer is there."""

    async def bring(self, parent: str | None, diff_id: str, pieces: AsyncIterator[bytes]) -> None:
        """Put a layer, whose archive (any compression) comes, on its parent; InvalidArgument."""


@dataclass(frozen=True, slots=True)
class _Known:
    created: int
    blobs: Sequence[Blob]
    origin: Origin | None  # None: all layers are here


@dataclass(slots=True)
class Imports:
    """All caches that one build uses."""

    worker: Bringing
    _steps: dict[str, _Known] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._steps)

    async def add(self, origin: Origin) -> int:
        """Use a cache; return how many steps it knows. Raises what is wrong with it."""
        _, content = await origin.manifest()
        document = parse_document(content)
        before = len(self._steps)
        config, layers = _parts(document)
        if config is None:
            await self._images(origin, document)
        else:
            known = {layer.digest: blob for layer in layers if (blob := blob_of(layer))}
            records = await _read(origin, config)
            for key, (created, blobs) in parse_records(records, known).items():
                self._steps.setdefault(key, _Known(created, blobs, origin))
        return len(self._steps) - before

    async def _images(self, origin: Origin, document: Document) -> None:
        """Use what images say of the steps that made them."""
        if not document.is_index:
            await self._image(origin, document)
            return
        for entry in (document.manifests or [])[:_IMAGES]:
            _, content = await origin.manifest(entry.digest)
            manifest = parse_document(content)
            if not manifest.is_index:
                await self._image(origin, manifest)

    async def _image(self, origin: Origin, manifest: Document) -> None:
        if manifest.config is None or not manifest.layers:
            return
        content = await _read(origin, manifest.config)
        try:
            diff_ids = msgspec.json.decode(content, type=ImageConfig).diff_ids
        except (ValueError, RecursionError):
            return
        if len(diff_ids) == len(manifest.layers):
            pairs = zip(manifest.layers, diff_ids, strict=True)
            blobs = [blob_of(layer, diff_id) for layer, diff_id in pairs]
            if all(blobs):
                self.add_inline(content, [blob for blob in blobs if blob], origin)

    def add_inline(self, config: bytes, blobs: Sequence[Blob], origin: Origin | None) -> None:
        """Use what the configuration of an image says, if it says anything."""
        for key, (created, found) in parse_inline(inline_of(config), blobs).items():
            self._steps.setdefault(key, _Known(created, found, origin))

    async def find(self, key: str, chain: str | None) -> Record | None:
        """Return what a step on `chain` has made, None if no cache knows it, or it is not true."""
        known = self._steps.get(key)
        if known is None:
            return None
        if not known.blobs:
            return Record(key, "", "", chain or "", known.created, 0, 0, "")
        diff_ids = [blob.diff_id for blob in known.blobs]
        whole = chain_id(diff_ids)
        if whole is None or chain_id(diff_ids[:-1]) != chain:
            return None
        if not self.worker.has_layer(whole):
            if known.origin is None:
                return None
            try:
                async with known.origin.blob(known.blobs[-1].descriptor) as pieces:
                    await self.worker.bring(chain, diff_ids[-1], pieces)
            except SampanError as error:
                log.warning("layer %s of a cache is not used: %s", diff_ids[-1], error)
                self._steps.pop(key, None)  # another platform may have been faster
                return None
        return Record(key, whole, diff_ids[-1], chain or "", known.created, 0, 0, "")


def _parts(document: Document) -> tuple[Descriptor | None, Sequence[Descriptor]]:
    """Return the records and the layers of a cache, in either of its forms."""
    if document.is_index:
        entries = document.manifests or []
        config = next((one for one in entries if one.media_type == MEDIA_CACHE), None)
        return config, [one for one in entries if one is not config]
    config = document.config
    is_cache = config is not None and config.media_type == MEDIA_CACHE
    return (config if is_cache else None), document.layers or []


async def _read(origin: Origin, descriptor: Descriptor) -> bytes:
    if not 0 <= descriptor.size <= LIMIT:
        raise InvalidArgument(f"blob {descriptor.digest} is too large ({descriptor.size} bytes)")
    async with origin.blob(descriptor) as pieces:
        return b"".join([piece async for piece in pieces])


class _Inline(msgspec.Struct):
    cache: bytes | None = msgspec.field(name=INLINE, default=None)


def inline_of(config: bytes) -> bytes:
    """Return the records in the configuration of an image; an empty list if it has none."""
    try:
        return msgspec.json.decode(config, type=_Inline).cache or b"[]"
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid cache: {error}") from error
