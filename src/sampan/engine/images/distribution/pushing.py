"""Pushing images to registries.

What came from a registry is pushed as the manifest or index that it was; what was made here as a
manifest of Docker's schema 2, as Docker does. Layers go all at once; a manifest is put when all
that it names is there.

Source: moby daemon/internal/distribution/push.go, push_v2.go; daemon/containerd/image_push.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from sampan.distribution.credentials import Credentials
from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.engine.images.distribution.departing import stored
from sampan.engine.images.distribution.shipping import Cargo, Shipped, Shipping, cargoes
from sampan.engine.images.distribution.transfers import Slots, TransferRequest, Transfers
from sampan.engine.images.documents import Member
from sampan.engine.images.model import Emit, Image
from sampan.engine.images.reports import Report
from sampan.engine.images.store import ImageStore
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import Digest, digest_of, parse_digest
from sampan.spec.docker.registries import PushResult
from sampan.spec.exports import typed
from sampan.spec.image import (
    MEDIA_CONFIG,
    MEDIA_DOCKER_CONFIG,
    MEDIA_DOCKER_MANIFEST,
    MEDIA_MANIFEST,
    Descriptor,
    Document,
    Manifest,
)
from sampan.spec.reference import Reference

_PACKING: Final = 2
"""Layers that are packed and compressed at once: each takes a core, and 25 MB of memory."""


@dataclass(slots=True)
class _Push:
    """One push while it runs."""

    request: TransferRequest
    repository: Repository
    shipping: Shipping
    report: Report
    shipped: dict[str, Descriptor] = field(default_factory=dict)  # layers that are there, by key


class Pushing:
    """The pushes of one engine."""

    def __init__(self, store: ImageStore, registries: Registries, slots: Slots, emit: Emit) -> None:
        self._store, self._registries, self._emit = store, registries, emit
        self.slots = slots
        self._packing = Slots(_PACKING)
        self._transfers: Transfers[Shipped] = Transfers()

    async def push(self, request: TransferRequest, report: Report) -> None:
        """Send an image, or without a tag all images of a repository.

        Raises NotFound, InvalidArgument, Unauthorized, Upstream. Emits `push`.
        """
        reference = request.reference
        report.say(f"The push refers to repository [{reference.trimmed().familiar}]")
        repository, shipping = self.shipping(reference, request.credentials)
        push = _Push(request, repository, shipping, report)
        async with self._store.intake():
            for tagged in self._tagged(reference):
                await self._tag(push, tagged)
        self._emit(
            "push", reference.familiar, {**self._labels(request), "name": reference.familiar_name}
        )

    def shipping(
        self, reference: Reference, credentials: Credentials | None
    ) -> tuple[Repository, Shipping]:
        """Return the repository of a reference, and what brings layers there."""
        repository = self._registries.repository(reference.trimmed(), credentials, push=True)
        shipping = Shipping(
            self._store, self._registries, repository, credentials, self.slots, self._packing
        )
        return repository, shipping

    def _labels(self, request: TransferRequest) -> dict[str, str]:
        try:
            return self._store.find(str(request.reference)).labels
        except NotFound:
            return {}

    def _tagged(self, reference: Reference) -> list[Reference]:
        """Return what is to be pushed; NotFound or InvalidArgument if that is nothing."""
        if reference.digest is not None:
            raise InvalidArgument("cannot push a digest reference")
        known = self._store.names.of_repository(reference)
        tagged = [each for each in known if each.tag and each.digest is None]
        if not known:
            raise NotFound(
                f"An image does not exist locally with the tag: {reference.familiar_name}"
            )
        if reference.is_name_only:
            if not tagged:
                raise NotFound(f"no tags to push for {reference.familiar_name}")
            return tagged
        if reference not in tagged:
            raise NotFound(f"tag does not exist: {reference.familiar}")
        return [reference]

    async def _tag(self, push: _Push, reference: Reference) -> None:
        """Push what one tag stands for."""
        named = self._store.named(reference)
        assert named is not None
        target = named.target
        document = self._store.documents.find(target) if target else None
        if target is None or document is None:
            image = self._store.find(str(reference), push.request.platform)
            await self._local(push, reference, image)
        elif not document.is_index:
            await self._single(push, reference, target)
        elif push.request.platform is None and not await self._missing(push, target):
            await self._index(push, reference, target, document)
        else:
            await self._one_of(push, reference, target, document)

    # --- one manifest --------------------------------------------------------------------------

    async def _single(self, push: _Push, reference: Reference, target: Digest) -> None:
        """Push the manifest that a tag stands for, under that tag."""
        member = self._store.documents.members(target)[0]
        if not await self._member(push, member):
            await self._local(push, reference, self._store.images[member.image], member.manifest)
            return
        await self._put(push, reference, self._store.documents.read(target), member.descriptor)

    async def _member(self, push: _Push, member: Member) -> bool:
        """Have everything that a manifest names in the repository, in the same form.

        False if a layer is nowhere to be had in that form: it is there in another one.
        """
        manifest, image = member.manifest, self._store.images.get(member.image)
        assert manifest is not None
        config, layers = manifest.config, manifest.layers or []
        if image is not None and len(image.chains) != len(layers):
            return False
        if image is not None:
            own = [
                Cargo(parse_digest(diff_id), chain, layer)
                for diff_id, chain, layer in zip(
                    image.config.diff_ids, image.chains, layers, strict=True
                )
            ]
            found = await self._layers(push, own)
            same = all(a.digest == b.digest for a, b in zip(found, layers, strict=True))
            if not same:
                return False
        else:
            for blob in layers:
                await self._blob(push, blob)
        if config is not None:
            await self._blob(push, config)
        return True

    async def _local(
        self, push: _Push, reference: Reference, image: Image, like: Document | None = None
    ) -> None:
        """Push an image of which no manifest is known, or whose layers have other forms now."""
        if like is not None:
            push.report.say(
                "Some layers cannot be had any more as they were: the digest will be another one"
            )
        forms: Sequence[Descriptor | None] = [None] * len(image.chains)
        layers = await self._layers(push, cargoes(image.config.diff_ids, image.chains, forms))
        oci = like is not None and like.kind == MEDIA_MANIFEST
        oci = oci or any("zstd" in layer.media_type for layer in layers)
        content = self._store.content.read(Digest(image.id))
        config = Descriptor(
            media_type=MEDIA_CONFIG if oci else MEDIA_DOCKER_CONFIG,
            digest=image.id,
            size=len(content),
        )
        await self._blob(push, config)
        made = Manifest(
            media_type=MEDIA_MANIFEST if oci else MEDIA_DOCKER_MANIFEST,
            config=config,
            layers=[typed(layer, oci=oci) for layer in layers],
        )
        document = _encoded(made)
        described = Descriptor(
            media_type=made.media_type, digest=digest_of(document), size=len(document)
        )
        await self._put(push, reference, document, described, image)

    # --- indexes -------------------------------------------------------------------------------

    async def _missing(self, push: _Push, target: Digest) -> bool:
        """Tell whether the index has a manifest that is neither here nor in the repository."""
        for member in self._store.documents.members(target):
            if not self._is_here(member):
                digest = parse_digest(member.descriptor.digest)
                if await push.repository.head(digest) is None:
                    return True
        return False

    def _is_here(self, member: Member) -> bool:
        if member.manifest is None:
            return False
        if member.image in self._store.images:
            return True
        blobs = [member.manifest.config, *(member.manifest.layers or [])]
        return member.kind != "image" and all(
            self._store.content.has(parse_digest(blob.digest)) for blob in blobs if blob
        )

    async def _index(
        self, push: _Push, reference: Reference, target: Digest, index: Document
    ) -> None:
        """Push an index with all its manifests that are here; the others are there already."""
        for member in self._store.documents.members(target):
            if not self._is_here(member):
                continue
            if not await self._member(push, member):
                await self._one_of(push, reference, target, index)
                return
            await self._put_by_digest(push, member.descriptor)
        for entry in index.manifests or []:
            nested = self._store.documents.find(parse_digest(entry.digest))
            if nested is not None and nested.is_index:
                await self._put_by_digest(push, entry)
        descriptor = self._store.documents.descriptor(target)
        assert descriptor is not None
        await self._put(push, reference, self._store.documents.read(target), descriptor)

    async def _put_by_digest(self, push: _Push, described: Descriptor) -> None:
        digest = parse_digest(described.digest)
        content = self._store.documents.read(digest)
        await push.repository.put_manifest(digest, _kind(described, content), content)

    async def _one_of(
        self, push: _Push, reference: Reference, target: Digest, index: Document
    ) -> None:
        """Push the image of an index that is for the wanted platform, or this machine's."""
        image = self._store.find(str(reference), push.request.platform)
        member = next(one for one in self._store.present(target) if one.image == image.id)
        original = self._store.documents.descriptor(target)
        if not await self._member(push, member):
            await self._local(push, reference, image, member.manifest)
            return
        content = self._store.documents.read(parse_digest(member.descriptor.digest))
        await self._put(push, reference, content, member.descriptor, image)
        if push.request.platform is None:
            # The docker CLI prints a note about this: cli/command/image/push.go.
            push.report.aux(
                {
                    "manifestPushedInsteadOfIndex": True,
                    "originalIndex": original,
                    "selectedManifest": member.descriptor,
                }
            )

    # --- pieces --------------------------------------------------------------------------------

    async def _layers(self, push: _Push, own: Sequence[Cargo]) -> list[Descriptor]:
        """Have layers in the repository, all at once; return the forms that they have there."""
        for cargo in reversed(own):
            push.report.update(cargo.name, "Preparing")
        try:
            with self._store.layers.wanted(cargo.chain for cargo in own):
                async with asyncio.TaskGroup() as group:
                    for key, cargo in {_key(cargo): cargo for cargo in reversed(own)}.items():
                        group.create_task(self._layer(push, key, cargo))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [push.shipped[_key(cargo)] for cargo in own]

    async def _layer(self, push: _Push, key: str, cargo: Cargo) -> None:
        wanted = cargo.wanted
        if key in push.shipped:
            push.report.update(cargo.name, "Layer already exists")
        elif wanted is not None and wanted.urls and "layer.v1" not in wanted.media_type:
            push.report.update(cargo.name, "Skipped foreign layer")
            push.shipped[key] = wanted
        else:
            # Who has other rights has another transfer.
            place = f"{push.repository.reference.name} {key} {hash(push.request.credentials)}"
            async with self._transfers.sharing(
                place, lambda tell: push.shipping.layer(cargo, tell), push.report
            ) as shipped:
                push.shipped[key] = shipped.descriptor

    async def _blob(self, push: _Push, blob: Descriptor) -> None:
        """Have a configuration, or what else is in our content store, in the repository."""
        digest = parse_digest(blob.digest)
        if await push.repository.has_blob(digest) is None:
            async with stored(self._store.content, digest) as read:
                await push.repository.upload_known(blob, read, lambda _: None)

    async def _put(
        self,
        push: _Push,
        reference: Reference,
        content: bytes,
        described: Descriptor,
        image: Image | None = None,
    ) -> None:
        """Store a manifest or index under a tag, and note what that made of our references."""
        kind = _kind(described, content)
        digest = await push.repository.put_manifest(reference.tag, kind, content)
        push.report.say(f"{reference.tag}: digest: {digest} size: {len(content)}")
        await self._note(reference, content, digest, image)
        result = PushResult(tag=reference.tag, digest=digest, size=len(content))
        push.report.aux(msgspec.to_builtins(result))

    async def _note(
        self, reference: Reference, content: bytes, digest: Digest, image: Image | None
    ) -> None:
        """Let the digest stand for the image, and the tag for the digest if it had none."""
        named = self._store.named(reference)
        if named is None:
            return  # it was removed meanwhile
        meant = image.id if image else named.image
        await self._store.documents.add(content, digest)
        pinned = reference.trimmed().with_digest(digest)
        if self._store.named(pinned) is None:
            await self._store.tag(meant, pinned, digest)
        if named.target is None and named.image == meant:
            await self._store.tag(meant, reference, digest)


def _key(cargo: Cargo) -> str:
    return f"{cargo.diff_id} {cargo.wanted.digest if cargo.wanted else ''}"


def _kind(described: Descriptor, content: bytes) -> str:
    """Return the media type that a document is put with: its own, or what it is called by."""
    said = msgspec.json.decode(content, type=dict[str, Any]).get("mediaType")
    return said if isinstance(said, str) and said else described.media_type


def _encoded(manifest: Manifest) -> bytes:
    """Return a manifest as Docker writes it: the fields in its order, indented by three spaces."""
    fields = msgspec.to_builtins(manifest)
    ordered = {
        "schemaVersion": fields["schemaVersion"],
        "mediaType": fields["mediaType"],
        "config": _described(manifest.config),
        "layers": [_described(layer) for layer in manifest.layers],
    }
    return msgspec.json.format(msgspec.json.encode(ordered), indent=3)


def _described(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": descriptor.digest,
    }
