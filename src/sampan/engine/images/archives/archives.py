"""What is in an archive of images: Docker's in all its forms, and the OCI layout.

Source: moby daemon/internal/image/tarexport/load.go; opencontainers/image-spec image-layout.md.
Everything in an archive is hostile: names stay inside it, sizes have limits, digests are checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from sampan.engine.images.archives.receiving import Part, Parts
from sampan.errors import InvalidArgument
from sampan.spec.digest import Digest, algorithm, digest_of, encoded, parse_digest
from sampan.spec.image import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    IMAGE_CONFIGS,
    INDEXES,
    MEDIA_DOCKER_LAYER,
    MEDIA_LAYER,
    ArchiveItem,
    Descriptor,
    Document,
    Index,
    parse_document,
)
from sampan.spec.reference import Reference
from sampan.storage.content import ALGORITHMS

T = TypeVar("T")

_DOCUMENT: Final = 16 << 20  # bytes of one JSON document
_DOCUMENTS: Final = 48 << 20  # bytes of all that are in memory at once
_ITEMS: Final = 10_000  # of manifest.json, of index.json
_INDEX_DEPTH: Final = 4
_LEGACY_DEPTH: Final = 127
_MANIFESTS: Final = 1000  # of one entry


@dataclass(slots=True)
class Found:
    """An image in an archive: its configuration and where its layers lie."""

    config: bytes
    layers: list[Part | None]  # None: missing in the archive
    parent: str = ""
    legacy: list[dict[str, Any]] | None = None  # the steps of an image of Docker 1.9 or older

    @property
    def digest(self) -> str:
        """The id that the image will have."""
        return digest_of(self.config)


@dataclass(slots=True)
class Entry:
    """What has names in an archive: an image, or an index of images for several platforms."""

    images: list[Found]
    names: list[str] = field(default_factory=list)
    target: Digest | None = None  # the manifest or index, if that is worth keeping
    blobs: list[tuple[Digest, Part]] = field(default_factory=list)  # what belongs to the target


class Archive:
    """The parts of an archive, and the file that those lie in that are no layers."""

    def __init__(self, parts: Parts, fd: int) -> None:
        self._parts, self._fd = parts, fd
        self._documents: dict[int, bytes] = {}  # that were read, by their place in the file
        self._held = 0  # their bytes

    def entries(self) -> list[Entry]:
        """Return everything that can be loaded, in the archive's order."""
        find = self._parts.find
        is_layout = find("index.json") and find("oci-layout")
        if find("manifest.json"):
            items = self._docker()
            return (self._both(items) if is_layout else None) or items
        if is_layout:
            return self._layout()
        if find("repositories"):
            return self._legacy()
        raise InvalidArgument("invalid archive: does not contain a manifest.json")

    def _both(self, items: list[Entry]) -> list[Entry] | None:
        """Return a layout with the names and parents of Docker's manifest.json beside it.

        None if it is no whole layout, or has not all images: then it is nothing but Docker's.
        """
        try:
            entries = self._layout()
        except InvalidArgument:
            return None
        by_digest = {image.digest: (entry, image) for entry in entries for image in entry.images}
        for item in items:
            (found,) = item.images
            if found.digest not in by_digest:
                return None
            entry, image = by_digest[found.digest]
            image.parent = found.parent
            known = {_normal(name) for name in entry.names}
            entry.names += [name for name in item.names if _normal(name) not in known]
        return entries

    # --- documents -------------------------------------------------------------------------

    def read(self, part: Part) -> bytes:
        """Return a document whole."""
        if part.is_layer:
            raise InvalidArgument(f"invalid archive: {part.name} is no document")
        if part.size > _DOCUMENT:
            raise InvalidArgument(f"invalid archive: {part.name} is too large")
        content = self._documents.get(part.offset)
        if content is None or len(content) != part.size:
            self._held += part.size
            if self._held > _DOCUMENTS:
                raise InvalidArgument("invalid archive: its documents are too large")
            content = os.pread(self._fd, part.size, part.offset)
            self._documents[part.offset] = content
        return content

    def _read(self, name: str) -> bytes:
        part = self._parts.find(name)
        if part is None:
            raise InvalidArgument(f"invalid archive: does not contain a {name}")
        return self.read(part)

    def _decode(self, name: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self._read(name), type=kind)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"invalid archive: failed to decode {name}: {error}") from error

    # --- Docker's archive ------------------------------------------------------------------

    def _docker(self) -> list[Entry]:
        items: Any = self._decode("manifest.json", list[ArchiveItem] | None)  # type: ignore[arg-type]
        if items is None:
            raise InvalidArgument("invalid manifest, manifest cannot be null (but can be [])")
        _check_count(items)
        return [
            Entry(
                [
                    Found(
                        self._read(item.config),
                        [self._parts.find(path) for path in item.layers or []],
                        item.parent,
                    )
                ],
                list(item.repo_tags or []),
            )
            for item in items
        ]

    # --- OCI layout ------------------------------------------------------------------------

    def _layout(self) -> list[Entry]:
        entries: dict[str, Entry] = {}
        descriptors = self._decode("index.json", Index).manifests
        _check_count(descriptors)
        for descriptor in descriptors:
            annotations = descriptor.annotations or {}
            name = annotations.get(ANNOTATION_IMAGE_NAME) or _full_name(
                annotations.get(ANNOTATION_REF_NAME, "")
            )
            entry = entries.get(descriptor.digest)
            if entry is None:
                entry = entries[descriptor.digest] = self._entry(descriptor)
            if name and name not in entry.names:
                entry.names.append(name)
        return [entry for entry in entries.values() if entry.images or entry.names]

    def _entry(self, descriptor: Descriptor) -> Entry:
        """Return what an entry of index.json stands for."""
        entry = Entry([])
        document = self._document(descriptor)
        packed = self._collect(descriptor, document, entry, 0)
        # Docker writes manifests of uncompressed layers only to have some: no registry has them,
        # and an image without a target is pushed with layers that are compressed.
        if packed or len(entry.images) > 1:
            entry.target = parse_digest(descriptor.digest)
        return entry

    def _collect(
        self, descriptor: Descriptor, document: Document, entry: Entry, depth: int
    ) -> bool:
        """Add all that a document stands for to `entry`; tell whether it has packed layers."""
        digest = parse_digest(descriptor.digest)
        self._add_blob(entry, digest)
        if document.is_index:
            if depth >= _INDEX_DEPTH:
                raise InvalidArgument("invalid archive: index in index in index")
            below = [self._below(one, entry, depth) for one in document.manifests or ()]
            return any(below)
        layers = document.layers or []
        blobs = [self._parts.find(_blob_path(layer.digest)) for layer in layers]
        if document.config is None or not _is_image(descriptor, document, depth):
            for one in (document.config, *layers):  # attestations, and what else there is
                if one:
                    self._add_blob(entry, parse_digest(one.digest))
            return False
        config = self._checked(document.config.digest)
        if algorithm(Digest(document.config.digest)) != "sha256":
            self._add_blob(entry, parse_digest(document.config.digest))
        if depth == 0 or None not in blobs:
            entry.images.append(Found(config, blobs))
        return any(layer.media_type not in (MEDIA_LAYER, MEDIA_DOCKER_LAYER) for layer in layers)

    def _below(self, descriptor: Descriptor, entry: Entry, depth: int) -> bool:
        """Add what a descriptor in an index stands for, as far as it is in the archive."""
        part = self._parts.find(_blob_path(descriptor.digest))
        if part is None:
            return False
        if len(entry.blobs) > _MANIFESTS:
            raise InvalidArgument("invalid archive: too many manifests")
        if part.is_layer or part.size > _DOCUMENT:
            return False
        try:
            document = self._document(descriptor)
        except InvalidArgument:
            self._add_blob(entry, parse_digest(descriptor.digest))  # of a type nobody knows
            return False
        return self._collect(descriptor, document, entry, depth + 1)

    def _document(self, descriptor: Descriptor) -> Document:
        content = self._checked(descriptor.digest)
        try:
            known = descriptor.media_type if descriptor.media_type in INDEXES else ""
            return parse_document(content, known)
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid archive: {error}") from error

    def _checked(self, text: str) -> bytes:
        """Return a blob that is a document, once its digest is known to be right."""
        digest, path = parse_digest(text), _blob_path(text)
        content = self._read(path)
        if digest_of(content, algorithm(digest)) != digest:
            raise InvalidArgument(f"invalid archive: {path} does not match its digest")
        return content

    def _add_blob(self, entry: Entry, digest: Digest) -> None:
        part = self._parts.find(_blob_path(digest))
        if part and not part.is_layer:
            entry.blobs.append((digest, part))

    # --- before manifest.json (Docker 1.9 and older) -----------------------------------------

    def _legacy(self) -> list[Entry]:
        repositories = self._decode("repositories", dict[str, dict[str, str]])
        found: dict[str, Entry] = {}
        for repository, tags in repositories.items():
            for tag, top in tags.items():
                entry = found.get(top) or Entry([self._legacy_image(top)])
                entry.names.append(f"{repository}:{tag}")
                found[top] = entry
        return list(found.values())

    def _legacy_image(self, top: str) -> Found:
        steps: list[dict[str, Any]] = []
        layers: list[Part | None] = []
        for step, layer in self._steps(top):
            steps.insert(0, step)
            layers.insert(0, layer)
        return Found(b"", layers, legacy=steps)

    def _steps(self, top: str) -> Iterator[tuple[dict[str, Any], Part | None]]:
        at, depth = top, 0
        while at:
            if depth >= _LEGACY_DEPTH:
                raise InvalidArgument("max depth exceeded")
            step = self._decode(f"{at}/json", dict[str, Any])
            yield step, self._parts.find(f"{at}/layer.tar")
            parent = step.get("parent", "")
            at, depth = parent.removeprefix("sha256:") if isinstance(parent, str) else "", depth + 1


def _check_count(items: Sized) -> None:
    if len(items) > _ITEMS:
        raise InvalidArgument("invalid archive: too many images")


def _full_name(name: str) -> str:
    """Return an image name of a layout; a bare tag, as many tools write, names no image."""
    return name if "/" in name or ":" in name else ""


def _normal(name: str) -> str:
    try:
        return str(Reference.parse(name).with_default_tag())
    except InvalidArgument:
        return name


def _is_image(descriptor: Descriptor, manifest: Document, depth: int) -> bool:
    if depth and descriptor.platform is not None and descriptor.platform.os == "unknown":
        return False
    # Inside an index there may be anything; what has a name of its own is meant as an image.
    return not depth or bool(manifest.config and manifest.config.media_type in IMAGE_CONFIGS)


def _blob_path(text: str) -> str:
    digest = parse_digest(text)
    if algorithm(digest) not in ALGORITHMS:
        raise InvalidArgument("unsupported digest algorithm")
    return f"blobs/{algorithm(digest)}/{encoded(digest)}"
