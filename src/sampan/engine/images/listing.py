"""Lists and details of images. Source: moby daemon/images/image_{list,inspect,history}.go."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.images.filters import Filters, boolean, check_names, glob, matches_labels, until
from sampan.engine.images.model import Image
from sampan.engine.images.store import ImageStore
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.docker.images import (
    DriverData,
    ImageHistoryItem,
    ImageInspect,
    ImageSummary,
    InspectMetadata,
    InspectRootFS,
)
from sampan.spec.image import nanoseconds, timestamp
from sampan.spec.reference import Reference

_ACCEPTED: Final = ("dangling", "label", "before", "since", "reference", "until")
# Fields of a container's configuration that are no part of an image's: moby imagespec.go.
_CONTAINER_ONLY: Final = ("Hostname", "Domainname", "StopTimeout")
# Fields that are there even if they are empty: moby server/router/image/inspect_response.go.
_ALWAYS: Final[dict[str, Any]] = {
    "Cmd": None,
    "Entrypoint": None,
    "Env": None,
    "Labels": None,
    "OnBuild": None,
    "User": "",
    "Volumes": None,
    "WorkingDir": "",
}


def created(image: Image) -> int | None:
    """Return when an image was made, in nanoseconds since the epoch; None if it does not say."""
    return None if image.config.created is None else nanoseconds(image.config.created)


def summaries(
    store: ImageStore, filters: Filters, *, all: bool, shared_size: bool
) -> list[ImageSummary]:
    """Return the list of images, newest first."""
    check_names(filters, _ACCEPTED)
    dangling_only = boolean(filters, "dangling", False)
    before, since = _limits(store, filters)
    patterns = [glob(pattern) for pattern in filters.get("reference", ())]
    containers = Counter(use.image for use in store.uses())
    parents = {image.parent for image in store.images.values()}
    shared = _shared_layers(store) if shared_size else None
    found = []
    for image in store.images.values():
        if dangling_only and image.id in parents:
            continue
        made = created(image)
        if before is not None and (made is None or made >= before):
            continue
        if since is not None and (made is None or made <= since):
            continue
        if "label" in filters and not matches_labels(filters["label"], image.labels):
            continue
        tags, digests = _names(store, image, patterns)
        if not tags and not digests:
            if not all and image.id in parents:
                continue
            if ("dangling" in filters and not dangling_only) or "reference" in filters:
                continue
        elif dangling_only and tags:
            continue
        summary = ImageSummary(
            id=image.id,
            parent_id=image.parent,
            created=(made or 0) // 10**9,
            labels=image.config.run.labels,
            repo_tags=tags,
            repo_digests=digests,
            size=store.size(image),
            containers=containers[image.id],
        )
        if shared is not None:
            summary.shared_size = sum(store.layers.size(c) for c in image.chains if shared[c] > 1)
        found.append(summary)
    return sorted(found, key=lambda summary: summary.created, reverse=True)


def _limits(store: ImageStore, filters: Filters) -> tuple[int | None, int | None]:
    earlier = [moment for name in filters.get("before", ()) if (moment := _made(store, name))]
    earlier += [until(value) for value in filters.get("until", ())]
    later = [moment for name in filters.get("since", ()) if (moment := _made(store, name))]
    return min(earlier, default=None), max(later, default=None)


def _made(store: ImageStore, name: str) -> int | None:
    return created(store.find(name))


def _names(store: ImageStore, image: Image, patterns: list[Any]) -> tuple[list[str], list[str]]:
    tags: list[str] = []
    digests: list[str] = []
    for reference in store.references(image.id):
        if patterns and not any(_matches(pattern, reference) for pattern in patterns):
            continue
        (digests if reference.digest else tags).append(reference.familiar)
    return tags, digests


def _matches(pattern: Any, reference: Reference) -> bool:
    targets = (
        reference.familiar,
        reference.familiar_name,
        str(reference.with_default_tag()),
        reference.name,
    )
    return any(pattern.fullmatch(target) for target in targets)


def _shared_layers(store: ImageStore) -> Counter[str]:
    return Counter(chain for image in store.images.values() for chain in image.chains)


async def inspect(store: ImageStore, image: Image, driver: str) -> ImageInspect:
    """Return all that is known of an image."""
    config = image.config
    tags, digests = _names(store, image, [])
    graph = None
    if image.chain_id is not None:
        try:
            graph = await blocking(store.mounter.graph, image.chain_id)
        except NotFound:
            graph = None
    history = config.history or []
    body = ImageInspect(
        id=image.id,
        repo_tags=tags,
        repo_digests=digests,
        parent=image.parent,
        comment=config.comment or (history[-1].comment if history else ""),
        docker_version=config.docker_version,
        author=config.author,
        config=run_config(image),
        architecture=config.architecture,
        os=config.os or "linux",
        size=store.size(image),
        graph_driver=DriverData(name=driver, data=graph),
        root_fs=InspectRootFS(type="layers", layers=config.diff_ids or None),
    )
    if image.last_tagged:
        body.metadata = InspectMetadata(last_tag_time=timestamp(image.last_tagged))
    if config.created is not None:
        body.created = timestamp(nanoseconds(config.created))
    if config.variant:
        body.variant = config.variant
    if config.os_version:
        body.os_version = config.os_version
    return body


def run_config(image: Image) -> dict[str, Any]:
    """Return the configuration of an image as inspect shows it in API 1.51."""
    shown: dict[str, Any] = _ALWAYS | msgspec.to_builtins(image.config.run)
    return {name: value for name, value in shown.items() if name not in _CONTAINER_ONLY}


def history(store: ImageStore, image: Image) -> list[ImageHistoryItem]:
    """Return how an image was made, newest step first."""
    chains = iter(image.chains)
    items = []
    for step in image.config.history or []:
        size = 0
        if not step.empty_layer:
            chain = next(chains, None)
            if chain is None:
                raise InvalidArgument("too many non-empty layers in History section")
            size = store.layers.size(chain)
        made = 0 if step.created is None else nanoseconds(step.created) // 10**9
        items.append(
            ImageHistoryItem(
                comment=step.comment, created=made, created_by=step.created_by, size=size
            )
        )
    items.reverse()
    at: Image | None = image
    for item in items:
        if at is None:
            break
        item.id = at.id
        item.tags = [r.familiar for r in store.references(at.id) if not r.digest] or None
        at = store.images.get(at.parent)
    return items
