"""New images from a root file system archive, or from a container.

Source: moby daemon/images/image_import.go, image_commit.go, daemon/commit.go.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.images.changes import apply_changes, merge
from sampan.engine.images.store import Image, ImageStore
from sampan.engine.undisturbed import undisturbed
from sampan.errors import InvalidArgument
from sampan.rpc import Fd
from sampan.spec.digest import EMPTY_LAYER, chain_id
from sampan.spec.image import History, ImageConfig, RootFS, RunConfig, timestamp
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from sampan.storage.compression import kind_of, plain_chunks
from sampan.storage.content import ContentStore, write_all
from sampan.storage.intake import LayerBlob, take_in, whole

SPOOL_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What becomes an image: a container's writable snapshot and its configuration."""

    container: str
    image: str  # id of the image the container was made from, "" if it is gone
    config: RunConfig  # the container's own
    override: RunConfig | None = None  # the body of POST /commit
    changes: Sequence[str] = ()
    author: str = ""
    comment: str = ""
    reference: Reference | None = None


@asynccontextmanager
async def spooled(content: ContentStore, archive: AsyncIterable[bytes]) -> AsyncIterator[int]:
    """Give a nameless file with everything that `archive` yields."""
    fd = await blocking(content.scratch)
    try:
        collected = bytearray()
        async for chunk in archive:
            collected += chunk
            if len(collected) >= SPOOL_CHUNK:
                await undisturbed(write_all, fd, bytes(collected))
                collected.clear()
        await undisturbed(write_all, fd, bytes(collected))
        yield fd
    finally:
        os.close(fd)


@asynccontextmanager
async def decompressed(content: ContentStore, fd: int) -> AsyncIterator[int]:
    """Give the file itself if it is not compressed, else a nameless file with its content."""
    if not kind_of(os.pread(fd, 8, 0)):
        yield fd
        return
    plain = await blocking(content.scratch)
    try:
        await undisturbed(_decompress, fd, plain)
        yield plain
    finally:
        os.close(plain)


def _decompress(source: int, target: int) -> None:
    for chunk in plain_chunks(whole(source)):
        write_all(target, chunk)


async def import_archive(
    store: ImageStore,
    archive: AsyncIterable[bytes],
    *,
    changes: Sequence[str],
    message: str,
    platform: Platform | None,
) -> Image:
    """Make an image of one layer."""
    platform = platform or Platform.host()
    check_os(platform.os)
    config = apply_changes(RunConfig(), changes)
    async with spooled(store.content, archive) as fd, store.intake():
        layer = await undisturbed(take_in, store.content, whole(fd))
        os.lseek(fd, 0, os.SEEK_SET)
        now = timestamp(time.time_ns())
        document = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            created=now,
            comment=message,
            config=config,
            rootfs=RootFS(diff_ids=[layer.diff_id]),
            history=[History(created=now, comment=message)],
        )
        await store.add_layer(fd, layer, layer.diff_id, None)
        image = await store.add(encode_config(document))
    store.log("import", image, image.id)
    return image


def check_os(name: str) -> None:
    """Raise InvalidArgument for images of other systems."""
    if name not in ("", "linux"):
        raise InvalidArgument("operating system is not supported")


def encode_config(document: ImageConfig) -> bytes:
    """Return a configuration as the bytes whose digest is the image's id."""
    return msgspec.json.encode(document, order="sorted")


async def commit(store: ImageStore, request: CommitRequest) -> Image:
    """Make an image of what a container changed, on the image it was made from."""
    custom = request.override or request.config
    config = merge(apply_changes(custom, request.changes), request.config)
    parent = store.images.get(request.image)
    base = copy.deepcopy(parent.config) if parent else ImageConfig(rootfs=RootFS())
    async with store.intake():
        diff_ids = list(base.diff_ids)
        if layer := await _commit_layer(store, request.container, diff_ids):
            diff_ids.append(layer.diff_id)
        document = _child(base, request, config, diff_ids, empty_layer=layer is None)
        image = await store.add(encode_config(document), parent.id if parent else "")
    store.log("create", image, image.id)
    if request.reference is not None:
        await store.tag(image.id, request.reference)
        store.log("tag", image, request.reference.with_default_tag().familiar)
    return image


async def _commit_layer(store: ImageStore, container: str, diff_ids: list[str]) -> LayerBlob | None:
    """Store the container's changes as a layer on `diff_ids`; None if there are none."""
    fd = await blocking(store.content.scratch)
    try:
        await undisturbed(store.mounter.diff, container, Fd(fd))
        layer = await undisturbed(take_in, store.content, whole(fd))
        if layer.diff_id == EMPTY_LAYER:
            return None
        os.lseek(fd, 0, os.SEEK_SET)
        chain = chain_id([*diff_ids, layer.diff_id])
        assert chain is not None
        await store.add_layer(fd, layer, chain, chain_id(diff_ids))
        return layer
    finally:
        os.close(fd)


def _child(
    base: ImageConfig,
    request: CommitRequest,
    config: RunConfig,
    diff_ids: list[str],
    *,
    empty_layer: bool,
) -> ImageConfig:
    now = timestamp(time.time_ns())
    step = History(
        created=now,
        created_by=" ".join(request.config.cmd or []),
        author=request.author,
        comment=request.comment,
        empty_layer=empty_layer,
    )
    host = Platform.host()
    return ImageConfig(
        architecture=base.architecture or host.architecture,
        os=base.os or host.os,
        variant=base.variant,
        os_version=base.os_version,
        os_features=base.os_features,
        created=now,
        author=request.author,
        container=request.container,
        config=config,
        rootfs=RootFS(diff_ids=diff_ids),
        history=[*(base.history or []), step],
    )
