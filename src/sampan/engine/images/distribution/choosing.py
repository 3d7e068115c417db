"""From what a name means in a registry to the one image that is wanted of it.

Source: moby daemon/internal/distribution/pull_v2.go, pull_v2_unix.go, registry.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.distribution.manifests import Fetched
from sampan.distribution.refusals import plain
from sampan.distribution.repository import Repository
from sampan.engine.images.documents import DEPTH, Documents
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import Digest, parse_digest
from sampan.spec.image import (
    DOCUMENT_LIMIT,
    INDEXES,
    MANIFESTS,
    MEDIA_CONFIG,
    MEDIA_DOCKER_CONFIG,
    Descriptor,
    Document,
    parse_document,
)
from sampan.spec.platform import Platform

MAX_LAYERS: Final = 127
_OLD_TYPES: Final = ("application/octet-stream", "application/json", "text/html", "")
_CONFIGS: Final = (MEDIA_CONFIG, MEDIA_DOCKER_CONFIG, *_OLD_TYPES)
_PREFIXES: Final = ("application/vnd.oci.image", "application/vnd.docker")
_PLUGIN: Final = "application/vnd.docker.plugin.v1+json"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The manifest of one image, and all documents on the way to it, outermost first."""

    manifest: Document
    config: Descriptor
    layers: Sequence[Descriptor]
    documents: dict[Digest, bytes] = field(default_factory=dict)


class Choosing:
    """Reads the documents of one target: those that are here already, the others from afar."""

    def __init__(self, documents: Documents, repository: Repository) -> None:
        self._documents, self._repository = documents, repository

    async def top(self, wanted: str | Digest, known: Digest | None) -> Fetched:
        """Return what a tag or a digest means now; one request without a body if it is `known`."""
        if known is not None:
            found = await self._repository.head(wanted)
            if found is not None and self._documents.has(parse_digest(found.digest)):
                return Fetched(found, self._documents.read(parse_digest(found.digest)))
        return await self._repository.manifest(wanted)

    async def image(self, top: Fetched, platform: Platform | None) -> Chosen:
        """Return the image for a platform (None: this machine's, or whatever a manifest is for).

        Raises NotFound if an index has none, InvalidArgument for what is no image.
        """
        documents = {parse_digest(top.descriptor.digest): top.content}
        document = parse_document(top.content, top.descriptor.media_type)
        for _ in range(DEPTH):
            if not document.is_index:
                return _checked(document, documents)
            entry = _entry(document.manifests or [], platform)
            digest, content = await self._document(entry)
            documents[digest] = content
            document = parse_document(content, entry.media_type)
        raise InvalidArgument("invalid manifest: index in index in index")

    async def _document(self, entry: Descriptor) -> tuple[Digest, bytes]:
        digest = parse_digest(entry.digest)
        if self._documents.has(digest):
            return digest, self._documents.read(digest)
        return digest, (await self._repository.manifest(digest)).content


def _entry(entries: Sequence[Descriptor], platform: Platform | None) -> Descriptor:
    """Return the entry of an index that serves a platform best."""
    wanted = platform or Platform.host()
    known = [e for e in entries if e.media_type in ("", *INDEXES, *MANIFESTS)]
    fitting = sorted(
        (rank, place)
        for place, entry in enumerate(known)
        if (rank := _rank(entry, wanted)) is not None
    )
    if not fitting:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    found = known[fitting[0][1]]
    if found.size > DOCUMENT_LIMIT:
        raise InvalidArgument(f"the manifest {found.digest} is too large")
    return found


def _rank(entry: Descriptor, wanted: Platform) -> tuple[int, int] | None:
    """Return how far an entry is from what is wanted, 0 is best; None if it does not serve.

    The exact variant is best, then the highest that runs; an entry without a platform may be
    anything, and comes last.
    """
    if entry.platform is None or not (entry.platform.os or entry.platform.architecture):
        return 2, 0
    offered = Platform.of(entry.platform.os, entry.platform.architecture, entry.platform.variant)
    if offered == wanted:
        return 0, 0
    if not wanted.runs(offered):
        return None
    digits = offered.variant.removeprefix("v")
    return 1, -int(digits) if digits.isdecimal() and len(digits) < 4 else 0


def _checked(manifest: Document, documents: dict[Digest, bytes]) -> Chosen:
    """Return what a manifest is made of, if that can be an image."""
    config, layers = manifest.config, manifest.layers or []
    if config is None:
        raise InvalidArgument("unsupported manifest format")
    if config.media_type not in _CONFIGS:
        kind = "plugin" if config.media_type == _PLUGIN else "unknown"
        raise InvalidArgument(f'Encountered remote "{config.media_type}"({kind}) when fetching')
    if len(layers) > MAX_LAYERS:
        raise InvalidArgument("max depth exceeded")
    for layer in layers:
        parse_digest(layer.digest)
        kind = layer.media_type.lower()
        if kind not in _OLD_TYPES and not any(kind.startswith(f"{p}.") for p in _PREFIXES):
            raise InvalidArgument(f"unsupported media type {plain(layer.media_type)}")
        if layer.size < 0:
            raise InvalidArgument(f"invalid manifest: the size of {layer.digest} is negative")
    return Chosen(manifest, config, layers, documents)
