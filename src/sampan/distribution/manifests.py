"""Checks of what a registry gives as a manifest: digest, size, and type against content.

Source: opencontainers/image-spec manifest.md, image-index.md; CVE-2021-41190.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from sampan.distribution.refusals import plain
from sampan.errors import InvalidArgument, Unsupported, Upstream
from sampan.spec.digest import Digest, algorithm, parse_digest
from sampan.spec.image import (
    MEDIA_DOCKER_INDEX,
    MEDIA_DOCKER_MANIFEST,
    MEDIA_INDEX,
    MEDIA_MANIFEST,
    Descriptor,
    Index,
    Manifest,
)

MANIFEST_BYTES = 4 << 20  # what registries take
MANIFESTS = (MEDIA_DOCKER_MANIFEST, MEDIA_MANIFEST)
INDEXES = (MEDIA_DOCKER_INDEX, MEDIA_INDEX)
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"  # +json, +prettyjws
_VAGUE = frozenset({"", "application/json", "text/plain", "application/octet-stream"})


_NOTHING = msgspec.Raw()


class _Shape(msgspec.Struct, rename="camel"):
    """What tells one kind of document from another."""

    schema_version: int = 0
    media_type: str | None = ""
    config: msgspec.Raw = _NOTHING
    layers: msgspec.Raw = _NOTHING
    manifests: msgspec.Raw = _NOTHING
    fs_layers: msgspec.Raw = _NOTHING

    def has(self, field: str) -> bool:
        """Tell whether a field is there, and is not null."""
        return bytes(getattr(self, field)) not in (b"", b"null")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest or an index: its checked descriptor and its exact bytes."""

    descriptor: Descriptor
    content: bytes


def checked(
    content: bytes, content_type: str, told: str, asked: Digest | None, name: str
) -> Fetched:
    """Return a document that a registry has sent, if it is what it should be.

    `told` is its Docker-Content-Digest header, `asked` the digest it was asked by, `name` the
    reference for the sentence about schema 1. Raises Upstream, Unsupported.
    """
    digest = _checked_digest(content, told, asked)
    media_type = _checked_type(content, content_type.partition(";")[0].strip().lower(), name)
    descriptor = Descriptor(media_type=media_type, digest=digest, size=len(content))
    return Fetched(descriptor, content)


def digest_by(name: str, content: bytes) -> Digest:
    """Return the digest of `content` by the algorithm `name`."""
    return Digest(f"{name}:{hashlib.new(name, content).hexdigest()}")


def _checked_digest(content: bytes, told: str, asked: Digest | None) -> Digest:
    for expected in (asked, told_digest(told)):
        if expected is not None and digest_by(algorithm(expected), content) != expected:
            raise Upstream(f"manifest verification failed for digest {expected}")
    return asked or told_digest(told) or digest_by("sha256", content)


def told_digest(text: str) -> Digest | None:
    """Return the digest in a Docker-Content-Digest header; None if there is none we know."""
    try:
        return parse_digest(text.strip())
    except InvalidArgument:
        return None


def _checked_type(content: bytes, content_type: str, name: str) -> str:
    try:
        shape = msgspec.json.decode(content, type=_Shape)
    except (ValueError, RecursionError) as error:
        raise Upstream(f"invalid manifest: {plain(str(error))}") from None
    if content_type.startswith(SCHEMA_1) or shape.schema_version == 1 or shape.has("fs_layers"):
        raise Unsupported(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been"
            f' removed. Suggest the author of "{name}" to upgrade the image to the OCI Format or'
            " Docker Image manifest v2, schema 2. More information at"
            " https://docs.docker.com/go/deprecated-image-specs/"
        )
    media_type = _agreed_type(shape, content_type)
    _check_content(content, shape, media_type)
    return media_type


def _agreed_type(shape: _Shape, content_type: str) -> str:
    """Return the type that header and document agree on."""
    guessed = MEDIA_INDEX if shape.has("manifests") else MEDIA_MANIFEST
    vague = content_type in _VAGUE
    media_type = (shape.media_type or guessed) if vague else content_type
    if media_type not in (*MANIFESTS, *INDEXES):
        raise Upstream(f"unsupported manifest media type: {plain(media_type)}")
    if shape.media_type and shape.media_type != media_type:
        raise Upstream(
            f"mediaType in manifest should be '{media_type}' not '{plain(shape.media_type)}'"
        )
    return media_type


def _check_content(content: bytes, shape: _Shape, media_type: str) -> None:
    is_index = media_type in INDEXES
    foreign = ("config", "layers") if is_index else ("manifests",)
    if any(map(shape.has, foreign)):
        what, other = ("index", "manifest") if is_index else ("manifest", "index")
        raise Upstream(f"media-type: expected {what} but found {other}")
    try:
        if is_index:
            parts = msgspec.json.decode(content, type=Index).manifests
        else:
            manifest = msgspec.json.decode(content, type=Manifest)
            parts = [manifest.config, *manifest.layers]
        for part in parts:
            parse_digest(part.digest)
            if part.size < 0:
                raise InvalidArgument(f"negative size of {part.digest}")
    except (ValueError, RecursionError, InvalidArgument) as error:
        raise Upstream(f"invalid manifest: {plain(str(error))}") from None
