"""What an image is made of beyond one platform: the manifests of its target, for `--tree`.

Source: moby api/types/image/manifest.go, daemon/containerd/image_list.go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable

from sampan.engine.images.documents import Member
from sampan.engine.images.model import Image
from sampan.engine.images.store import ImageStore
from sampan.spec.digest import Digest
from sampan.spec.docker.images import (
    AttestationProperties,
    ImageProperties,
    ManifestSize,
    ManifestSummary,
    UnpackedSize,
)
from sampan.spec.platform import PlatformBody
from sampan.spec.reference import Reference


def target_among(store: ImageStore, references: Iterable[Reference]) -> Digest | None:
    """Return the target that references stand for: of several, the one with most manifests."""
    targets = {name.target: None for it in references if (name := store.names.get(it))}
    known = [target for target in targets if target]
    if len(known) < 2:
        return known[0] if known else None
    return max(known, key=lambda target: len(store.documents.members(target)))


def manifests(store: ImageStore, target: Digest, here: Container[str]) -> list[ManifestSummary]:
    """Return all manifests of a target, whether they are here or not.

    `here` are the digests of all content.
    """
    containers: defaultdict[str, list[str]] = defaultdict(list)
    for use in store.uses():
        containers[use.image].append(use.container)
    return [_summary(store, member, containers, here) for member in store.documents.members(target)]


def _summary(
    store: ImageStore,
    member: Member,
    containers: defaultdict[str, list[str]],
    here: Container[str],
) -> ManifestSummary:
    image = store.images.get(member.image)
    content, complete = _content(member, here)
    unpacked = store.size(image) if image else 0
    summary = ManifestSummary(
        id=member.descriptor.digest,
        descriptor=member.descriptor,
        available=image is not None if member.kind == "image" else complete,
        size=ManifestSize(content=content, total=content + unpacked),
        kind=member.kind,
    )
    if member.kind == "image":
        summary.image_data = ImageProperties(
            platform=_platform(member, image),
            size=UnpackedSize(unpacked=unpacked),
            containers=containers[image.id] if image else [],
        )
    elif member.kind == "attestation":
        summary.attestation_data = AttestationProperties(subject=member.attests)
    return summary


def _platform(member: Member, image: Image | None) -> PlatformBody:
    if member.descriptor.platform:
        return member.descriptor.platform
    return image.config.platform_body if image else PlatformBody()


def _content(member: Member, here: Container[str]) -> tuple[int, bool]:
    """Return the bytes of a manifest's blobs that are here, and whether those are all."""
    manifest = member.manifest
    if manifest is None:  # it is not here, or nobody knows its type
        complete = member.descriptor.digest in here
        return (member.descriptor.size if complete else 0), complete
    total, complete = member.descriptor.size, True
    for blob in (manifest.config, *(manifest.layers or ())):
        if blob and blob.digest in here:
            total += blob.size
        else:
            complete = False
    return total, complete
