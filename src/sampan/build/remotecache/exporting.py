"""Storing the steps of a build elsewhere, for other builds.

Source: buildkit cache/remotecache/export.go (forms), registry/registry.go and local/local.go
(attributes).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from sampan.build.built import Built
from sampan.build.exporting.assembling import encoded
from sampan.build.exporting.options import boolean
from sampan.build.remotecache.records import (
    MEDIA_CACHE,
    UNCOMPRESSED,
    Step,
    write_records,
)
from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.digest import chain_ids, digest_of
from sampan.spec.exports import GZIP, Compression, LayerPlace, parse_compression, typed
from sampan.spec.image import MEDIA_DOCKER_INDEX, MEDIA_INDEX, MEDIA_MANIFEST, Descriptor

KINDS: Final = ("inline", "registry", "local")


class Store(Protocol):
    """Where a cache goes."""

    async def layer(self, layer: LayerPlace, form: Compression) -> Descriptor:
        """Have a layer there in some form; return what it is."""

    async def blob(self, descriptor: Descriptor, content: bytes) -> None:
        """Have a small blob there."""

    async def manifest(self, descriptor: Descriptor, content: bytes, tag: str = "") -> None:
        """Store a manifest or index under its digest, or a tag."""


@dataclass(frozen=True, slots=True)
class CacheWish:
    """What a client wants to be stored."""

    kind: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    all: bool = False  # also steps of which no layer is in the image
    ignore_error: bool = False
    manifest: bool = True  # as an image's manifest; else an index of layers
    oci: bool = True
    compression: Compression = GZIP


def cache_wish(kind: str, attributes: Mapping[str, str]) -> CacheWish:
    """Return what attributes say. Raises InvalidArgument, Unsupported for what is not there."""
    if kind not in KINDS:
        raise Unsupported(f"cache export to {kind} is not supported")
    needed = {"registry": "ref", "local": "dest"}.get(kind)
    if needed and not attributes.get(needed):
        raise InvalidArgument(f"{kind} cache exporter requires {needed}")
    mode = attributes.get("mode", "min")
    if mode not in ("min", "max"):
        raise InvalidArgument(f"invalid cache export mode: {mode}")
    oci = boolean(attributes, "oci-mediatypes", default=True)
    manifest = boolean(attributes, "image-manifest", default=oci)
    if manifest and not oci:
        raise InvalidArgument(
            "invalid configuration for remote cache, OCI mediatypes are required for"
            " image-manifest cache format"
        )
    return CacheWish(
        kind,
        attributes,
        mode == "max",
        boolean(attributes, "ignore-error", default=False),
        manifest,
        oci,
        parse_compression(
            attributes.get("compression", ""),
            attributes.get("compression-level", ""),
            force=boolean(attributes, "force-compression", default=False),
        ),
    )


def steps_of(built: Sequence[Built], *, all: bool) -> dict[str, Step]:
    """Return the steps of builds; without `all` those whose layers are in what they have made."""
    found: dict[str, Step] = {}
    for one in built:
        diff_ids = list(one.state.config.diff_ids)
        for key, step in one.steps.items():
            if all or list(step.layers) == diff_ids[: len(step.layers)]:
                found[key] = step
    return found


async def store_cache(
    steps: Mapping[str, Step],
    wish: CacheWish,
    store: Store,
    tag: str,
    tell: Callable[[str], None],
) -> Descriptor | None:
    """Store steps with their layers; return what they are named by, None if there are no layers."""
    places: dict[str, LayerPlace] = {}
    for step in steps.values():
        for diff_id, chain in zip(step.layers, chain_ids(step.layers), strict=True):
            places.setdefault(diff_id, LayerPlace(diff_id=diff_id, chain=chain))
    if not places:
        return None
    forms = await _layers(places, wish, store.layer, tell)
    content = write_records(steps, forms)
    config = Descriptor(media_type=MEDIA_CACHE, digest=digest_of(content), size=len(content))
    await store.blob(config, content)
    tell(f"writing config {config.digest}")
    kind, document = _document(config, forms, wish)
    described = Descriptor(media_type=kind, digest=digest_of(document), size=len(document))
    await store.manifest(described, document, tag)
    tell(f"writing cache manifest {described.digest}")
    return described


async def _layers(
    places: Mapping[str, LayerPlace],
    wish: CacheWish,
    layer: Callable[[LayerPlace, Compression], Awaitable[Descriptor]],
    tell: Callable[[str], None],
) -> dict[str, Descriptor]:
    forms: dict[str, Descriptor] = {}
    for diff_id, place in places.items():
        forms[diff_id] = typed(await layer(place, wish.compression), oci=wish.oci)
        tell(f"writing layer {forms[diff_id].digest}")
    return forms


def _document(
    config: Descriptor, forms: Mapping[str, Descriptor], wish: CacheWish
) -> tuple[str, bytes]:
    layers: list[Any] = [
        {**msgspec.to_builtins(form), "annotations": {UNCOMPRESSED: diff_id}}
        for diff_id, form in forms.items()
    ]
    records = msgspec.to_builtins(config)
    if wish.manifest:
        kind, parts = MEDIA_MANIFEST, {"config": records, "layers": layers}
    else:
        kind, parts = (
            MEDIA_INDEX if wish.oci else MEDIA_DOCKER_INDEX,
            {"manifests": [*layers, records]},
        )
    return kind, encoded({"schemaVersion": 2, "mediaType": kind, **parts})
