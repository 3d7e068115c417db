"""Manifests and indexes as a registry sees them: what they refer to, and what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from sampan.errors import InvalidArgument
from sampan.registry import names
from sampan.registry.errors import RegistryError
from sampan.registry.expressions import Expression
from sampan.spec.digest import Digest
from sampan.spec.image import (
    INDEXES,
    MANIFESTS,
    Descriptor,
    Document,
    parse_document,
)
from sampan.spec.platform import PlatformBody

NON_DISTRIBUTABLE = re.compile(
    r"application/vnd\.(?:oci\.image\.layer\.nondistributable\.|docker\.image\.rootfs\.foreign\.)"
)
MEDIA_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
KNOWN = (*MANIFESTS, *INDEXES)
LARGEST = (1 << 63) - 1  # bytes: image-spec's descriptor.md has sizes of 64 bits
_URL = re.compile(r"https?://[^#]+")


@dataclass(frozen=True)
class UrlRules:
    """Which addresses layers may be fetched from instead: patterns.

    With neither list only layers may have them that no registry may distribute: the specification
    demands that those are taken, and docker-registry refuses them.
    """

    disabled: bool = False
    allow: tuple[Expression, ...] = ()
    deny: tuple[Expression, ...] = ()

    def permit(self, url: str, media_type: str = "") -> bool:
        """Tell whether a layer of this type may say that it is found there."""
        if self.disabled:
            return True
        if not _URL.fullmatch(url):
            return False
        if not (self.allow or self.deny):
            return NON_DISTRIBUTABLE.match(media_type) is not None
        if self.allow and not any(pattern.search(url) for pattern in self.allow):
            return False
        return not any(pattern.search(url) for pattern in self.deny)


@dataclass(frozen=True)
class PlatformRules:
    """Which manifests of an index must be there: `all`, `none`, or those of listed platforms."""

    mode: str = "all"
    platforms: tuple[tuple[str, str], ...] = ()  # (os, architecture)

    def demand(self, platform: PlatformBody | None) -> bool:
        """Tell whether a manifest for this platform has to be there."""
        if self.mode != "list" or not self.platforms:
            return self.mode != "none"
        return platform is not None and (platform.os, platform.architecture) in self.platforms


@dataclass(frozen=True)
class Validation:
    """What manifests are checked for beyond their form."""

    urls: UrlRules = field(default_factory=UrlRules)
    platforms: PlatformRules = field(default_factory=PlatformRules)


@dataclass(frozen=True)
class Parts:
    """What a document refers to."""

    media_type: str
    artifact_type: str
    subject: Digest | None
    annotations: dict[str, str] | None
    blobs: dict[Digest, bool]  # digest → it has to be there
    manifests: dict[Digest, bool]


def invalid(why: str) -> RegistryError:
    """Return the answer to a document that is none."""
    return RegistryError("MANIFEST_INVALID", why, message=f"manifest invalid: {why}")


def parse(content: bytes, media_type: str, validation: Validation) -> Parts:
    """Read a document that a client pushes; answer MANIFEST_INVALID if it is not valid."""
    if media_type:
        _demand_known(media_type)
    try:
        document = parse_document(content, media_type)
    except InvalidArgument as error:
        raise invalid(str(error).removeprefix("invalid manifest: ")) from None
    _demand_known(document.kind)  # it is sent with this type: a page of HTML would be ours
    if document.schema_version != 2:
        raise invalid(f"unrecognized manifest schema version {document.schema_version}")
    return parts(document, media_type, validation)


def _demand_known(media_type: str) -> None:
    if media_type not in KNOWN:
        raise invalid(f"unrecognized manifest content type {media_type[:128]}")


def parts(document: Document, media_type: str, validation: Validation) -> Parts:
    """Return what a document refers to."""
    blobs: dict[Digest, bool] = {}
    manifests: dict[Digest, bool] = {}
    if document.is_index:
        for child in document.manifests or []:
            # BuildKit's older form of a cache is an index of layers.
            is_manifest = child.media_type in ("", *MANIFESTS, *INDEXES)
            found = manifests if is_manifest else blobs
            found[_digest(child)] = validation.platforms.demand(child.platform)
    else:
        for descriptor in [*([document.config] if document.config else []), *_layers(document)]:
            digest = _digest(descriptor)
            blobs[digest] = blobs.get(digest, False) or _is_demanded(descriptor, validation.urls)
    kind = media_type or document.kind
    artifact_type = document.artifact_type
    if not artifact_type and document.config:
        artifact_type = document.config.media_type
    subject = _digest(document.subject) if document.subject else None
    return Parts(kind, artifact_type, subject, document.annotations, blobs, manifests)


def _layers(document: Document) -> list[Descriptor]:
    return document.layers or []


def _digest(descriptor: Descriptor) -> Digest:
    if not 0 <= descriptor.size <= LARGEST:
        raise invalid(f"the size of {descriptor.digest[:200]} is negative, or has no end")
    try:
        return names.digest(descriptor.digest)
    except RegistryError:
        raise invalid(f"invalid digest {descriptor.digest[:200]}") from None


def _is_demanded(descriptor: Descriptor, rules: UrlRules) -> bool:
    """Tell whether we must have the blob; a layer may be elsewhere if that is permitted."""
    if descriptor.urls:
        for url in descriptor.urls:
            if not rules.permit(url, descriptor.media_type):
                raise invalid(f"invalid URL on layer: {url[:200]}")
        return False
    return not NON_DISTRIBUTABLE.match(descriptor.media_type)


ANYTHING = Validation(UrlRules(disabled=True), PlatformRules("none"))
UNREADABLE = Parts("", "", None, None, {}, {})


class _Schema1Layer(msgspec.Struct, rename={"blob_sum": "blobSum"}):
    blob_sum: str


class _Schema1(msgspec.Struct, rename="camel"):
    """Docker's first manifests: they are served to whoever has them here, and not accepted."""

    schema_version: int
    fs_layers: list[_Schema1Layer]


def parse_stored(content: bytes) -> Parts:
    """Read a document that is in the storage; raise InvalidArgument if it is not valid."""
    try:
        old = msgspec.json.decode(content, type=_Schema1)
    except (ValueError, RecursionError):
        old = None
    if old and old.schema_version == 1:
        blobs = {names.digest(layer.blob_sum): True for layer in old.fs_layers}
        return Parts(MEDIA_SCHEMA1, "", None, None, blobs, {})
    return parts(parse_document(content), "", ANYTHING)
