"""New images from a root file system archive, or from a container.

Source: moby daemon/images/image_import.go, image_commit.go, daemon/commit.go.
"""

from __future__ import annotations

import copy
import time
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass

import msgspec

from sampan.engine.images.changes import apply_changes, merge
from sampan.engine.images.feeding import from_pipe
from sampan.engine.images.model import Image, Staged
from sampan.engine.images.store import ImageStore
from sampan.errors import InvalidArgument, NotFound
from sampan.rpc import Fd
from sampan.spec.digest import EMPTY_LAYER, Digest, chain_id, chain_ids
from sampan.spec.image import History, ImageConfig, RootFS, RunConfig, timestamp
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What becomes an image: a container's writable snapshot and its configuration."""

    container: str
    image: str  # id of the image the container was made from, "" if from none
    config: RunConfig  # the container's own
    override: RunConfig | None = None  # the body of POST /commit
    changes: Sequence[str] = ()
    author: str = ""
    comment: str = ""
    reference: Reference | None = None


async def import_archive(
    store: ImageStore,
    archive: AsyncIterable[bytes],
    *,
    changes: Sequence[str],
    message: str,
    platform: Platform | None,
    awaits_name: bool,
) -> Image:
    """Make an image of one layer; see ImageStore.add."""
    platform = platform or Platform.host()
    check_os(platform.os)
    config = apply_changes(RunConfig(), changes)
    async with store.intake():
        layer = await store.layers.stage(archive)
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
        with store.layers.wanted([layer.diff_id]):
            await store.layers.commit(layer, None, lease=False)
            image = await store.add(encode_config(document), awaits_name=awaits_name)
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
    if request.image and parent is None:  # what the container changed is nothing without it
        raise NotFound(f"No such image: {request.image}")
    base = copy.deepcopy(parent.config) if parent else ImageConfig(rootfs=RootFS())
    async with store.intake():
        diff_ids: list[str] = list(base.diff_ids)
        below = chain_id(diff_ids)
        with store.layers.wanted([below] if below else []):
            layer = await _stage_changes(store, request.container, below)
            if layer is not None:
                diff_ids.append(layer.diff_id)
            document = _child(base, request, config, diff_ids, empty_layer=layer is None)
            with store.layers.wanted(chain_ids(diff_ids)):
                if layer is not None:
                    await store.layers.commit(layer, below, lease=False)
                image = await store.add(
                    encode_config(document),
                    parent.id if parent else "",
                    awaits_name=request.reference is not None,
                )
        store.log("create", image, image.id)
        if request.reference is not None:
            await store.tag(image.id, request.reference)
            store.log("tag", image, request.reference.with_default_tag().familiar)
    return image


async def _stage_changes(store: ImageStore, container: str, parent: Digest | None) -> Staged | None:
    """Stage the container's changes as a layer for `parent`; None if there are none."""
    async with from_pipe(lambda fd: store.mounter.diff(container, Fd(fd))) as pieces:
        layer = await store.layers.stage(pieces, parent=parent)
    if layer.diff_id == EMPTY_LAYER:
        await store.layers.discard(layer)
        return None
    return layer


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
