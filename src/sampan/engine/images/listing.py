"""Lists and details of images. Source: moby daemon/images/image_{list,inspect,history}.go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from typing import Any, Final

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.images.filters import Filters, boolean, check_names, glob, matches_labels, until
from sampan.engine.images.manifests import manifests as manifests_of
from sampan.engine.images.manifests import target_among
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


def summaries(
    store: ImageStore,
    filters: Filters,
    *,
    all: bool,
    shared_size: bool = False,
    manifests: Container[str] | None = None,
) -> list[ImageSummary]:
    """Return the list of images, newest first.

    With `manifests`, the digests of all content, what a tree needs, too.
    """
    check_names(filters, _ACCEPTED)
    chosen = _Choice(store, filters, all=all)
    containers = Counter(use.image for use in store.uses())
    shared = _shared_layers(store) if shared_size else None
    found = []
    for image in store.images.values():
        if (names := chosen.names(image)) is None:
            continue
        parts = _platforms(store, image, names)
        summary = ImageSummary(
            id=image.id,
            parent_id=image.parent,
            created=(image.created or 0) // 10**9,
            labels=image.config.run.labels,
            repo_tags=_tags(names),
            repo_digests=_digests(names),
            size=_size(store, parts),
            containers=sum(containers[part.id] for part in parts),
        )
        if target := target_among(store, names):
            summary.descriptor = store.documents.descriptor(target) or msgspec.UNSET
            if manifests is not None:
                summary.manifests = manifests_of(store, target, manifests)
        if shared is not None:
            layers = {chain for part in parts for chain in part.chains}
            summary.shared_size = sum(store.layers.size(it) for it in layers if shared[it] > 1)
        found.append(summary)
    return sorted(found, key=lambda summary: summary.created, reverse=True)


class _Choice:
    """Which images a list shows, and by which names."""

    def __init__(self, store: ImageStore, filters: Filters, *, all: bool) -> None:
        self._store, self._filters, self._all = store, filters, all
        self._dangling_only = boolean(filters, "dangling", False)
        self._before, self._since = _limits(store, filters)
        self._patterns = [glob(pattern) for pattern in filters.get("reference", ())]
        self._parents = {image.parent for image in store.images.values()}

    def names(self, image: Image) -> list[Reference] | None:
        """Return the names to show of an image; None if it is not in the list."""
        references = self._store.references(image.id)
        own = [it for it in references if self._store.is_main(it, image.id)]
        if (references and not own) or not self._passes(image):
            return None  # a further platform of what is in the list
        names = [it for it in own if not self._patterns or _matches_any(self._patterns, it)]
        if names:
            is_tagged = any(name.digest is None for name in names)
            return None if self._dangling_only and is_tagged else names
        if not self._all and image.id in self._parents:
            return None
        no_dangling = "dangling" in self._filters and not self._dangling_only
        return None if no_dangling or "reference" in self._filters else names

    def _passes(self, image: Image) -> bool:
        if self._dangling_only and image.id in self._parents:
            return False
        if self._before is not None or self._since is not None:
            made = image.created
            if self._before is not None and (made is None or made >= self._before):
                return False
            if self._since is not None and (made is None or made <= self._since):
                return False
        labels = self._filters.get("label")
        return not labels or matches_labels(labels, image.labels)


def _platforms(store: ImageStore, image: Image, names: list[Reference]) -> list[Image]:
    """Return what an entry of the list stands for: an image, with its other platforms."""
    ids = {it for name in names for it in store.names.images(name)} - {image.id}
    return [image, *(store.images[it] for it in ids if it in store.images)]


def _size(store: ImageStore, images: list[Image]) -> int:
    if len(images) == 1:
        return store.size(images[0])
    return sum(store.layers.size(it) for it in {it for image in images for it in image.chains})


def _limits(store: ImageStore, filters: Filters) -> tuple[int | None, int | None]:
    earlier = [moment for name in filters.get("before", ()) if (moment := _made(store, name))]
    earlier += [until(value) for value in filters.get("until", ())]
    later = [moment for name in filters.get("since", ()) if (moment := _made(store, name))]
    return min(earlier, default=None), max(later, default=None)


def _made(store: ImageStore, name: str) -> int | None:
    return store.find(name).created


def _matches_any(patterns: list[Any], reference: Reference) -> bool:
    targets = (
        reference.familiar,
        reference.familiar_name,
        str(reference.with_default_tag()),
        reference.name,
    )
    return any(pattern.fullmatch(target) for pattern in patterns for target in targets)


def _shared_layers(store: ImageStore) -> Counter[str]:
    return Counter(chain for image in store.images.values() for chain in image.chains)


async def inspect(
    store: ImageStore, image: Image, driver: str, *, manifests: bool = False
) -> ImageInspect:
    """Return all that is known of an image."""
    config = image.config
    names = store.references(image.id)
    history = config.history or []
    body = ImageInspect(
        id=image.id,
        repo_tags=_tags(names),
        repo_digests=_digests(names),
        parent=image.parent,
        comment=config.comment or (history[-1].comment if history else ""),
        docker_version=config.docker_version,
        author=config.author,
        config=run_config(image),
        architecture=config.architecture,
        os=config.os or "linux",
        size=store.size(image),
        graph_driver=DriverData(name=driver, data=await _graph(store, image)),
        root_fs=InspectRootFS(type="layers", layers=config.diff_ids or None),
    )
    if target := target_among(store, names):
        body.descriptor = store.documents.descriptor(target) or msgspec.UNSET
        if manifests:
            body.manifests = manifests_of(store, target, await blocking(set, store.content))
    if image.last_tagged:
        body.metadata = InspectMetadata(last_tag_time=timestamp(image.last_tagged))
    if config.created is not None:
        body.created = timestamp(nanoseconds(config.created))
    if config.variant:
        body.variant = config.variant
    if config.os_version:
        body.os_version = config.os_version
    return body


async def _graph(store: ImageStore, image: Image) -> dict[str, str] | None:
    """Return where the file system of an image is; None if it has no layers here."""
    if image.chain_id is None:
        return None
    try:
        return await blocking(store.mounter.graph, image.chain_id)
    except NotFound:
        return None


def _tags(names: Iterable[Reference]) -> list[str]:
    return [it.familiar for it in names if it.digest is None]


def _digests(names: Iterable[Reference]) -> list[str]:
    return [it.familiar for it in names if it.digest is not None]


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
