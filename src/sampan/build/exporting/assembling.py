"""What is said of images beyond their configurations: manifests, attestations, an index.

The same images and layers give the same bytes. Source: buildkit exporter/containerimage/writer.go,
docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from sampan.build.exporting.options import Wishes
from sampan.errors import InvalidArgument
from sampan.spec.digest import Digest, digest_of
from sampan.spec.exports import LayerPlace, typed
from sampan.spec.image import (
    MEDIA_CONFIG,
    MEDIA_DOCKER_CONFIG,
    MEDIA_DOCKER_INDEX,
    MEDIA_DOCKER_MANIFEST,
    MEDIA_INDEX,
    MEDIA_MANIFEST,
    Descriptor,
)
from sampan.spec.platform import Platform, PlatformBody

EMPTY: Final = b"{}"
MEDIA_EMPTY: Final = "application/vnd.oci.empty.v1+json"
MEDIA_STATEMENT: Final = "application/vnd.in-toto+json"
PREDICATE: Final = "in-toto.io/predicate-type"  # annotation
_ATTESTATION: Final = "application/vnd.docker.attestation.manifest.v1+json"
_UNKNOWN: Final = {"architecture": "unknown", "os": "unknown"}
LayerMaker = Callable[[LayerPlace], Awaitable[Descriptor]]
# Of the platform and the manifest that statements are about, to those: type and content.
Stater = Callable[[Platform, Descriptor], Awaitable[Sequence[tuple[str, bytes]]]]


@dataclass(frozen=True, slots=True)
class Product:
    """An image for one platform."""

    platform: Platform
    config: bytes
    layers: Sequence[LayerPlace]
    statements: Stater | None = None


@dataclass(slots=True)
class Assembly:
    """All documents of an image; the last of the manifests is what its names stand for."""

    blobs: dict[Digest, tuple[Descriptor, bytes]] = field(default_factory=dict)
    manifests: list[tuple[Descriptor, bytes]] = field(default_factory=list)
    layers: dict[str, LayerPlace] = field(default_factory=dict)  # by the digest of their form
    forms: dict[str, Descriptor] = field(default_factory=dict)  # by that, too
    config: str = ""  # digest, unless there are several

    platform: PlatformBody | None = None  # unless there are several
    annotations: dict[str, str] = field(default_factory=dict)  # of the root's descriptor

    @property
    def root(self) -> Descriptor:
        """What names stand for."""
        return msgspec.structs.replace(
            self.manifests[-1][0], platform=self.platform, annotations=self.annotations or None
        )

    def blob(self, media_type: str, content: bytes) -> Descriptor:
        """Add a small blob."""
        digest = digest_of(content)
        descriptor = Descriptor(media_type=media_type, digest=digest, size=len(content))
        self.blobs[digest] = descriptor, content
        return descriptor

    def manifest(self, fields: Mapping[str, Any]) -> Descriptor:
        """Add a manifest or index."""
        content = encoded(fields)
        descriptor = Descriptor(
            media_type=fields["mediaType"], digest=digest_of(content), size=len(content)
        )
        self.manifests.append((descriptor, content))
        return descriptor


def encoded(fields: Mapping[str, Any]) -> bytes:
    """Return a document as BuildKit writes it."""
    return msgspec.json.format(msgspec.json.encode(fields), indent=2)


async def assemble(
    products: Sequence[Product], wishes: Wishes, make: LayerMaker, *, index: bool
) -> Assembly:
    """Return the documents of images whose layers `make` has in the wanted form.

    Raises InvalidArgument for annotations that have no place.
    """
    _check(products, wishes, index=index)
    assembly, entries, attestations = Assembly(), [], []
    for product in products:
        entry = await _image(assembly, product, wishes, make)
        entries.append(_described(entry, product, wishes))
        if not index:
            assembly.config, assembly.platform = digest_of(product.config), _body(product)
            assembly.annotations = wishes.annotated("manifest-descriptor", product.platform)
            return assembly
        if product.statements is not None and (
            told := await product.statements(product.platform, entry)
        ):
            attestations.append(_attestation(assembly, entry, told, wishes))
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MEDIA_INDEX if wishes.oci else MEDIA_DOCKER_INDEX,
        "manifests": [*entries, *attestations],
    }
    if annotations := wishes.annotated("index"):
        fields["annotations"] = annotations
    assembly.manifest(fields)
    assembly.annotations = wishes.annotated("index-descriptor")
    return assembly


def _check(products: Sequence[Product], wishes: Wishes, *, index: bool) -> None:
    platforms = {product.platform for product in products}
    for one in wishes.annotations:
        if one.platform is not None and one.platform not in platforms:
            raise InvalidArgument(f"invalid annotation: no platform {one.platform} found in source")
        if not index and one.target.startswith("index"):
            raise InvalidArgument("index annotations not supported for single platform export")


async def _image(
    assembly: Assembly, product: Product, wishes: Wishes, make: LayerMaker
) -> Descriptor:
    """Add one image; return its manifest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_once(make(layer))) for layer in product.layers]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    forms = [typed(task.result(), oci=wishes.oci) for task in tasks]
    for form, layer in zip(forms, product.layers, strict=True):
        assembly.layers[form.digest], assembly.forms[form.digest] = layer, form
    config = assembly.blob(MEDIA_CONFIG if wishes.oci else MEDIA_DOCKER_CONFIG, product.config)
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST if wishes.oci else MEDIA_DOCKER_MANIFEST,
        "config": _plain(config),
        "layers": [_plain(form) for form in forms],
    }
    if annotations := wishes.annotated("manifest", product.platform):
        fields["annotations"] = annotations
    return assembly.manifest(fields)


async def _once(work: Awaitable[Descriptor]) -> Descriptor:
    return await work


def _body(product: Product) -> PlatformBody:
    platform = product.platform
    return PlatformBody(
        architecture=platform.architecture, os=platform.os, variant=platform.variant
    )


def _described(manifest: Descriptor, product: Product, wishes: Wishes) -> dict[str, Any]:
    fields = {**_plain(manifest), "platform": msgspec.to_builtins(_body(product))}
    if annotations := wishes.annotated("manifest-descriptor", product.platform):
        fields["annotations"] = annotations
    return fields


def _attestation(
    assembly: Assembly, subject: Descriptor, told: Sequence[tuple[str, bytes]], wishes: Wishes
) -> dict[str, Any]:
    """Add what is said of a manifest; return its entry in the index."""
    layers = []
    for kind, content in told:
        layer = _plain(assembly.blob(MEDIA_STATEMENT, content))
        layers.append({**layer, "annotations": {PREDICATE: kind}})
    fields: dict[str, Any] = {"schemaVersion": 2, "mediaType": MEDIA_MANIFEST}
    if wishes.artifact:
        fields["artifactType"] = _ATTESTATION
        fields["config"] = {**_plain(assembly.blob(MEDIA_EMPTY, EMPTY)), "data": "e30="}
    else:
        root = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
        content = msgspec.json.encode({**_UNKNOWN, "config": {}, "rootfs": root})
        fields["config"] = _plain(assembly.blob(MEDIA_CONFIG, content))
    fields["layers"] = layers
    if wishes.artifact:
        fields["subject"] = _plain(subject)
    entry = _plain(assembly.manifest(fields))
    annotations = {
        "vnd.docker.reference.digest": subject.digest,
        "vnd.docker.reference.type": "attestation-manifest",
    }
    return {**entry, "annotations": annotations, "platform": _UNKNOWN}


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
