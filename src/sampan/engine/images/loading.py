"""Loading images: Docker's archive in all its forms, and the OCI layout.

Source: moby daemon/internal/image/tarexport/load.go; opencontainers/image-spec image-layout.md.
Everything in an archive is hostile: names stay inside it, sizes have limits, digests are checked.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from sampan.engine.images.importing import check_os, encode_config
from sampan.engine.images.layers import chain_of
from sampan.engine.images.model import Image, Staged
from sampan.engine.images.store import ImageStore
from sampan.engine.undisturbed import undisturbed
from sampan.errors import InvalidArgument
from sampan.spec.digest import Digest, digest_of, encoded, parse_digest
from sampan.spec.docker.images import ProgressDetail, ProgressMessage
from sampan.spec.image import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    MEDIA_DOCKER_INDEX,
    MEDIA_INDEX,
    ArchiveItem,
    Descriptor,
    History,
    ImageConfig,
    Index,
    Manifest,
    RootFS,
    parse_config,
)
from sampan.spec.names import short_id
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from sampan.storage.archive_index import ArchiveIndex, Member
from sampan.storage.compression import kind_of
from sampan.storage.intake import KEPT, chunks_of, region, whole

T = TypeVar("T")

PIECE: Final = 1 << 20  # bytes read at once
_DOCUMENT: Final = 16 << 20  # bytes of one JSON document
_INDEX_DEPTH: Final = 4
_LEGACY_DEPTH: Final = 127


@dataclass(frozen=True, slots=True)
class Found:
    """An image in an archive: its configuration and where its layers lie."""

    config: bytes
    layers: list[Member | None]  # None: missing in the archive
    names: list[str] = field(default_factory=list)
    parent: str = ""


class Archive:
    """A plain tar file with images."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            self._index = ArchiveIndex(whole(fd))
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid archive: {error}") from error

    def images(self) -> list[Found]:
        """Return all images, in the archive's order."""
        if self._index.find("manifest.json"):
            return self._docker()
        if self._index.find("index.json") and self._index.find("oci-layout"):
            return self._layout()
        if self._index.find("repositories"):
            return self._legacy()
        raise InvalidArgument("invalid archive: does not contain a manifest.json")

    def layer(self, member: Member) -> tuple[int, int, int]:
        """Return where a layer lies: descriptor, offset, size."""
        return self._fd, member.offset, member.size

    def _read(self, name: str) -> bytes:
        member = self._index.find(name)
        if member is None:
            raise InvalidArgument(f"invalid archive: does not contain a {name}")
        if member.size > _DOCUMENT:
            raise InvalidArgument(f"invalid archive: {name} is too large")
        return os.pread(self._fd, member.size, member.offset)

    def _decode(self, name: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self._read(name), type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidArgument(f"invalid archive: failed to decode {name}: {error}") from error

    # --- Docker's archive ------------------------------------------------------------------

    def _docker(self) -> list[Found]:
        items: Any = self._decode("manifest.json", list[ArchiveItem] | None)  # type: ignore[arg-type]
        if items is None:
            raise InvalidArgument("invalid manifest, manifest cannot be null (but can be [])")
        return [
            Found(
                self._read(item.config),
                [self._index.find(path) for path in item.layers or []],
                item.repo_tags or [],
                item.parent,
            )
            for item in items
        ]

    # --- OCI layout ------------------------------------------------------------------------

    def _layout(self) -> list[Found]:
        found: dict[str, Found] = {}
        for descriptor in self._decode("index.json", Index).manifests:
            annotations = descriptor.annotations or {}
            name = annotations.get(ANNOTATION_IMAGE_NAME) or _full_name(
                annotations.get(ANNOTATION_REF_NAME, "")
            )
            for digest, image in self._manifests(descriptor, 0):
                known = found.setdefault(digest, image)
                if name and name not in known.names:
                    known.names.append(name)
        return list(found.values())

    def _manifests(self, descriptor: Descriptor, depth: int) -> list[tuple[str, Found]]:
        path = _blob_path(descriptor.digest)
        content = self._read(path)
        if digest_of(content) != descriptor.digest:
            raise InvalidArgument(f"invalid archive: {path} does not match its digest")
        if descriptor.media_type in (MEDIA_INDEX, MEDIA_DOCKER_INDEX):
            if depth >= _INDEX_DEPTH:
                raise InvalidArgument("invalid archive: index in index in index")
            below = [
                entry
                for entry in self._decode(path, Index).manifests
                if self._index.find(_blob_path(entry.digest))
                and not (entry.platform and entry.platform.os == "unknown")
            ]
            return [item for entry in below for item in self._manifests(entry, depth + 1)]
        manifest = self._decode(path, Manifest)
        config = self._read(_blob_path(manifest.config.digest))
        if digest_of(config) != manifest.config.digest:
            raise InvalidArgument("invalid archive: a configuration does not match its digest")
        layers = [self._index.find(_blob_path(layer.digest)) for layer in manifest.layers]
        return [(descriptor.digest, Found(config, layers))]

    # --- before manifest.json (Docker 1.9 and older) -----------------------------------------

    def _legacy(self) -> list[Found]:
        repositories = self._decode("repositories", dict[str, dict[str, str]])
        found: dict[str, Found] = {}
        for repository, tags in repositories.items():
            for tag, top in tags.items():
                image = found.get(top) or self._legacy_image(top)
                image.names.append(f"{repository}:{tag}")
                found[top] = image
        return list(found.values())

    def _legacy_image(self, top: str) -> Found:
        steps: list[dict[str, Any]] = []
        layers: list[Member | None] = []
        at = top
        while at:
            if len(steps) >= _LEGACY_DEPTH:
                raise InvalidArgument("max depth exceeded")
            step = self._decode(f"{at}/json", dict[str, Any])
            steps.insert(0, step)
            layers.insert(0, self._index.find(f"{at}/layer.tar"))
            parent = step.get("parent", "")
            at = parent.removeprefix("sha256:") if isinstance(parent, str) else ""
        return Found(msgspec.json.encode({"legacy": steps}), layers)


def _full_name(name: str) -> str:
    """Return an image name of a layout; a bare tag, as many tools write, names no image."""
    return name if "/" in name or ":" in name else ""


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{encoded(parse_digest(digest))}"


class Loading:
    """One load: yields what Docker prints."""

    def __init__(
        self, store: ImageStore, archive: Archive, *, quiet: bool, platform: Platform | None
    ) -> None:
        self._store, self._archive = store, archive
        self._quiet, self._platform = quiet, platform

    async def run(self) -> AsyncGenerator[ProgressMessage, None]:
        """Add all images of the archive."""
        unnamed: list[Image] = []
        loaded: list[tuple[Image, str]] = []
        for found in await undisturbed(self._archive.images):
            config = parse_config(found.config) if not _is_legacy(found) else None
            if config and not self._is_wanted(config):
                continue
            diff_ids: list[str] = []
            async for message in self._layers(found, config, diff_ids):
                yield message
            document = found.config if config else _modern(found, diff_ids)
            image = await self._store.add(document)
            loaded.append((image, found.parent))
            for name in found.names:
                async for message in self._name(image, name):
                    yield message
            if not found.names:
                unnamed.append(image)
            self._store.log("load", image, image.id)
        await self._link(loaded)
        for image in unnamed:
            yield ProgressMessage(stream=f"Loaded image ID: {image.id}\n")

    def _is_wanted(self, config: ImageConfig) -> bool:
        if config.os not in ("", "linux"):
            raise InvalidArgument(f"cannot load {config.os} image on linux")
        return self._platform is None or self._platform.runs(config.platform)

    async def _layers(
        self, found: Found, config: ImageConfig | None, diff_ids: list[str]
    ) -> AsyncIterator[ProgressMessage]:
        """Unpack the layers that are not there yet; collect their diff ids."""
        expected = config.diff_ids if config else [None] * len(found.layers)
        if len(expected) != len(found.layers):
            raise InvalidArgument(
                "invalid manifest, layers length mismatch:"
                f" expected {len(found.layers)}, got {len(expected)}"
            )
        parent: Digest | None = None
        for place, (wanted, member) in enumerate(zip(expected, found.layers, strict=True)):
            chain = None if wanted is None else chain_of(parent, Digest(wanted))
            if wanted is None or chain not in self._store.layers.chains:
                if member is None:
                    raise InvalidArgument(f"invalid archive: layer {place} is missing")
                if wanted is not None and not self._quiet:
                    yield _progress(wanted, 0, member.size)
                staged = await self._stage(member, wanted, parent)
                if wanted is not None and staged.diff_id != wanted:
                    await self._store.layers.discard(staged)
                    raise InvalidArgument(
                        f"invalid diffID for layer {place}:"
                        f' expected "{wanted}", got "{staged.diff_id}"'
                    )
                wanted = staged.diff_id
                chain = await self._store.layers.commit(staged, parent)
                await self._keep(member, wanted)
                if not self._quiet:
                    yield _progress(wanted, member.size, member.size)
            diff_ids.append(wanted)
            parent = chain

    async def _stage(self, member: Member, diff_id: str | None, parent: Digest | None) -> Staged:
        fd, offset, size = self._archive.layer(member)
        digest = None if diff_id is None else Digest(diff_id)
        return await self._store.layers.stage(_pieces(fd, offset, size), digest, parent)

    async def _keep(self, member: Member, diff_id: str) -> None:
        """Keep the archive of a compressed layer: nothing else has its digest."""
        fd, offset, size = self._archive.layer(member)
        media_type = KEPT.get(kind_of(os.pread(fd, 8, offset)))
        if media_type is None:
            return
        blob = await undisturbed(self._store.content.ingest, chunks_of(region(fd, offset, size)))
        await self._store.layers.keep_archive(diff_id, blob, size, media_type)

    async def _name(self, image: Image, name: str) -> AsyncIterator[ProgressMessage]:
        reference = Reference.parse(name)
        if not reference.tag:
            raise InvalidArgument(f'invalid tag "{name}"')
        old = self._store.named(reference)
        if old is not None and old.image != image.id:
            yield ProgressMessage(
                stream=f"The image {reference.familiar} already exists, renaming the old one"
                f" with ID {old.image} to empty string\n"
            )
        await self._store.tag(image.id, reference)
        yield ProgressMessage(stream=f"Loaded image: {reference.familiar}\n")

    async def _link(self, loaded: list[tuple[Image, str]]) -> None:
        """Note the parents that came in the same archive, where their histories agree."""
        ids = {image.id for image, _ in loaded}
        for image, parent in loaded:
            if parent in ids and _is_parent(self._store.images[parent].config, image.config):
                await self._store.set_parent(image.id, parent)


async def _pieces(fd: int, offset: int, size: int) -> AsyncIterator[bytes]:
    end = offset + size
    while offset < end:
        data = await undisturbed(os.pread, fd, min(PIECE, end - offset), offset)
        if not data:
            raise InvalidArgument("invalid archive: unexpected end")
        offset += len(data)
        yield data


def _is_parent(parent: ImageConfig, child: ImageConfig) -> bool:
    before, after = parent.history or [], child.history or []
    return (not before and not after) or (
        len(after) - len(before) == 1 and after[: len(before)] == before
    )


def _progress(diff_id: str, current: int, total: int) -> ProgressMessage:
    return ProgressMessage(
        status="Loading layer",
        progress_detail=ProgressDetail(current=current, total=total),
        id=short_id(diff_id),
    )


def _is_legacy(found: Found) -> bool:
    return found.config.startswith(b'{"legacy":')


def _modern(found: Found, diff_ids: list[str]) -> bytes:
    """Return a configuration of today for an image of Docker 1.9 or older."""
    steps = msgspec.json.decode(found.config)["legacy"]
    top = {
        name: value
        for name, value in steps[-1].items()
        if name in ("architecture", "os", "created", "author", "config", "comment")
    }
    try:
        document = msgspec.convert(top, ImageConfig)
        document.history = [msgspec.convert(_step(step), History) for step in steps]
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid image JSON: {error}") from error
    check_os(document.os)
    document.rootfs = RootFS(diff_ids=diff_ids)
    return encode_config(document)


def _step(step: dict[str, Any]) -> dict[str, Any]:
    config = step.get("container_config")
    command = config.get("Cmd") if isinstance(config, dict) else None
    words = [word for word in command or [] if isinstance(word, str)]
    named = {name: step.get(name) or "" for name in ("author", "comment")}
    return {**named, "created": step.get("created"), "created_by": " ".join(words)}
