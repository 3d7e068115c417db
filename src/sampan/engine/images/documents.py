"""Manifests and indexes: what a reference stands for beyond one image.

A *target* is the manifest or index that a reference means in a registry or an archive. The
documents of all targets are in the content store; what they say is kept in memory, so that
nobody waits for a disk.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sampan.engine.blocking import blocking
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import Digest, algorithm, digest_of, parse_digest
from sampan.spec.image import (
    DOCUMENT_LIMIT,
    IMAGE_CONFIGS,
    INDEXES,
    MANIFESTS,
    Descriptor,
    Document,
    parse_document,
)
from sampan.storage.content import ContentStore

DEPTH: Final = 4  # of indexes in indexes
_MEMORABLE: Final = 256 << 10  # bytes of a document that is kept in memory
# Source: moby buildkit docs/attestations/attestation-storage.md
_TYPE: Final = "vnd.docker.reference.type"
_SUBJECT: Final = "vnd.docker.reference.digest"

Kind = Literal["image", "attestation", "unknown"]


@dataclass(frozen=True, slots=True)
class Member:
    """One manifest of a target: an image for one platform, an attestation, or something else."""

    descriptor: Descriptor
    kind: Kind
    manifest: Document | None = None  # None: it is not here
    image: str = ""  # id of the image; "" if this is none, or its manifest is not here
    attests: str = ""  # digest of the manifest that an attestation is for


class Documents:
    """The manifests and indexes in a content store."""

    def __init__(self, content: ContentStore) -> None:
        self._content = content
        self._known: dict[Digest, tuple[Document, int]] = {}  # with its size

    async def add(self, content: bytes, expected: Digest | None = None) -> Digest:
        """Store a document (or a small blob that one mentions); return its digest.

        InvalidArgument if it is not `expected`.
        """
        return await blocking(self._content.add, content, expected)

    def has(self, digest: Digest) -> bool:
        """Tell whether a document is here."""
        return digest in self._known or self._content.has(digest)

    def read(self, digest: Digest) -> bytes:
        """Return the bytes of a document; NotFound if it is not here."""
        return self._content.read(digest, DOCUMENT_LIMIT)

    def find(self, digest: Digest) -> Document | None:
        """Return what a document says; None if it is not here, or is no manifest and no index."""
        found = self._find(digest)
        return found[0] if found else None

    def _find(self, digest: Digest) -> tuple[Document, int] | None:
        if known := self._known.get(digest):
            return known
        try:
            content = self.read(digest)
            found = parse_document(content), len(content)
        except (NotFound, InvalidArgument):
            return None
        if len(content) <= _MEMORABLE:
            self._known[digest] = found
        return found

    def forget(self, digest: Digest) -> None:
        """Drop what is remembered of a document that is gone."""
        self._known.pop(digest, None)

    def descriptor(self, target: Digest) -> Descriptor | None:
        """Describe a target; None if it is not here."""
        found = self._find(target)
        if found is None:
            return None
        document, size = found
        return Descriptor(
            media_type=document.kind,
            digest=target,
            size=size,
            annotations=document.annotations,
        )

    def members(self, target: Digest) -> list[Member]:
        """Return the manifests of a target, in its order: one, or those of an index."""
        descriptor = self.descriptor(target)
        return list(self._members(descriptor, 0)) if descriptor else []

    def _members(self, descriptor: Descriptor, depth: int) -> Iterator[Member]:
        _, document = self._open(descriptor)
        if document is not None and document.is_index:
            for entry in document.manifests or () if depth < DEPTH else ():
                yield from self._members(entry, depth + 1)
            return
        yield self._member(descriptor, document, alone=depth == 0)

    def _open(self, descriptor: Descriptor) -> tuple[Digest | None, Document | None]:
        digest = _checked(descriptor.digest)
        known = descriptor.media_type in ("", *INDEXES, *MANIFESTS)
        return digest, self.find(digest) if digest and known else None

    def _member(self, descriptor: Descriptor, manifest: Document | None, *, alone: bool) -> Member:
        annotations = descriptor.annotations or {}
        if annotations.get(_TYPE) == "attestation-manifest":
            subject = annotations.get(_SUBJECT, "")
            return Member(descriptor, "attestation", manifest, attests=subject)
        if manifest is None or manifest.config is None:
            is_image = descriptor.media_type in MANIFESTS and not _is_unknown(descriptor)
            return Member(descriptor, "image" if is_image else "unknown")
        strange = manifest.config.media_type not in IMAGE_CONFIGS or _is_unknown(descriptor)
        if strange and not alone:
            return Member(descriptor, "unknown", manifest)
        return Member(descriptor, "image", manifest, self._image_of(manifest.config.digest))

    def _image_of(self, config: str) -> str:
        """Return the id of an image: the SHA-256 of its configuration, whatever names that."""
        digest = _checked(config)
        if digest is None or algorithm(digest) == "sha256":
            return digest or ""
        try:
            return digest_of(self._content.read(digest))
        except (NotFound, InvalidArgument):
            return ""

    def blobs(self, target: Digest, images: Container[str]) -> Iterator[Digest]:
        """Yield the digests of what a target needs, layers of images not counted.

        What belongs to images that are not among `images` is not needed.
        """
        yield target
        if descriptor := self.descriptor(target):
            yield from self._blobs(descriptor, images, 0)

    def _blobs(
        self, descriptor: Descriptor, images: Container[str], depth: int
    ) -> Iterator[Digest]:
        digest, document = self._open(descriptor)
        if digest is None:
            return
        if document is not None and document.is_index:
            yield digest
            for entry in document.manifests or () if depth < DEPTH else ():
                yield from self._blobs(entry, images, depth + 1)
            return
        member = self._member(descriptor, document, alone=depth == 0)
        if member.kind == "image" and member.image not in images:
            return
        yield digest
        if document is None:
            return
        for entry in (document.config, *(document.layers or ())):
            if entry and (found := _checked(entry.digest)):
                yield found
            if member.kind == "image":
                return  # its layers are looked after by those who unpacked them


def _checked(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except InvalidArgument:
        return None


def _is_unknown(descriptor: Descriptor) -> bool:
    return descriptor.platform is not None and descriptor.platform.os == "unknown"
