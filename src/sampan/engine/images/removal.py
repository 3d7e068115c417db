"""Removing images. Source: moby daemon/images/image_delete.go, image_prune.go."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from sampan.engine.images.filters import Filters, boolean, check_names, matches_labels, until
from sampan.engine.images.model import Image, ImageUse
from sampan.engine.images.store import ImageStore
from sampan.errors import Conflict, InvalidArgument, SampanError
from sampan.spec.docker.images import ImageDeleteItem, ImagesPruneReport
from sampan.spec.names import short_id
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any

log = logging.getLogger(__name__)

_ACCEPTED: Final = ("dangling", "label", "label!", "until")


class Removal:
    """One removal, with the list of what it did."""

    def __init__(self, store: ImageStore, *, force: bool) -> None:
        self._store, self._force = store, force
        self.done: list[ImageDeleteItem] = []

    async def remove(
        self, name: str, *, prune_parents: bool, platforms: Sequence[Platform] = ()
    ) -> None:
        """Remove a name, and the images with their last name; or an image by its id.

        With `platforms` only those of an image that has others, too; its names stay.
        """
        images = self._store.find_all(name)
        found = {(image := self._store.find(name, it)).id: image for it in platforms}
        chosen = list(found.values())
        by_id = len(images) == 1 and _is_id_prefix(images[0].id, name)
        if by_id and not chosen and len(self._siblings(images[0])) > 1:
            images, chosen = self._siblings(images[0]), [images[0]]
        if chosen and len(chosen) < len(images):
            await self._remove_platforms(chosen)
            return
        try:
            if not by_id:
                await self._remove_names(images, name)
            elif is_single(references := self._store.references(images[0].id)):
                if obstacle := self._obstacle(images[0], references=False):
                    raise obstacle.conflict(images[0])
                await self._untag(images, references)
            for image in images:
                if by_id or not self._store.references(image.id):
                    await self._delete(image, prune_parents=prune_parents, quiet=not by_id)
        finally:
            await self._store.keep(image.id for image in images)

    def _siblings(self, image: Image) -> list[Image]:
        """Return the images that share all names of an image: the platforms of one index."""
        targets = {self._store.target_of(it) for it in self._store.references(image.id)}
        if len(targets) != 1:
            return [image]
        members = self._store.present(targets.pop())
        return [self._store.images[member.image] for member in members] or [image]

    async def _remove_platforms(self, images: Sequence[Image]) -> None:
        for image in images:
            obstacle = self._obstacle(image, references=False)
            if obstacle is None and not self._force and len(self._siblings(image)) < 2:
                obstacle = _Obstacle("image is referenced in multiple repositories")
            if obstacle:
                raise obstacle.conflict(image)
        for image in images:
            await self._erase(image)

    async def _remove_names(self, images: Sequence[Image], name: str) -> None:
        """Remove what names the images."""
        store, main = self._store, images[0]
        meant = parse_any(name)
        if not self._force and is_single(store.references(main.id)):
            ids = {image.id for image in images}
            if use := next((use for use in store.uses() if use.image in ids), None):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{name}" (must force) -'
                    f" container {short_id(use.container)} is using its referenced image"
                    f" {short_id(use.image)}"
                )
        if isinstance(meant, str):  # the digest of a manifest or an index
            named = store.names.of_target(meant)
            if not self._force and not is_single(named):
                raise _Obstacle("image is referenced in multiple repositories").conflict(main)
            await self._untag(images, named)
            return
        meant = meant.with_default_tag()
        same = [it for it in store.references(main.id) if it.name == meant.name and it != meant]
        goes_alone = meant.digest is not None or any(it.digest is None for it in same)
        await self._untag(images, [meant], with_them=[] if goes_alone else same)

    async def _untag(
        self,
        images: Sequence[Image],
        references: Sequence[Reference],
        with_them: Sequence[Reference] = (),
    ) -> None:
        """Take names of the first image away; others are not told as events of their own."""
        going = [image.id for image in images]
        removed = await self._store.untag(*references, *with_them, going=going)
        for _ in references:
            self._store.log("untag", images[0], images[0].id)
        self.done += [ImageDeleteItem(untagged=reference.familiar) for reference in removed]

    async def _delete(self, image: Image, *, prune_parents: bool, quiet: bool) -> None:
        """Delete an image and, as long as nothing needs them, its parents."""
        store = self._store
        if obstacle := self._obstacle(image, references=True):
            dangling = not store.references(image.id) and not store.children(image.id)
            if quiet and (not dangling or obstacle.used):
                return
            raise obstacle.conflict(image)
        if references := store.references(image.id):
            await self._untag([image], references)
        try:
            await self._erase(image)
        except Conflict:  # it has come again meanwhile
            if quiet:
                return
            raise
        if prune_parents and (parent := store.images.get(image.parent)):
            unforced = Removal(store, force=False)
            unforced.done = self.done
            await unforced._delete(parent, prune_parents=True, quiet=True)

    async def _erase(self, image: Image) -> None:
        layers = await self._store.delete(image.id)
        self._store.log("delete", image, image.id)
        self.done.append(ImageDeleteItem(deleted=image.id))
        self.done += [ImageDeleteItem(deleted=layer) for layer in layers]

    def _obstacle(self, image: Image, *, references: bool) -> _Obstacle | None:
        """Return what stands against the deletion."""
        store, soft = self._store, not self._force
        if image.id in store.reclaiming.claimed:
            return _Obstacle("image is just coming in", hard=True, used=True)
        if store.children(image.id):
            return _Obstacle("image has dependent child images", hard=True)
        uses = [use for use in store.uses() if use.image == image.id]
        if container := _first(uses, running=True):
            reason = f"image is being used by running container {container}"
            return _Obstacle(reason, hard=True, used=True)
        if soft and references and store.references(image.id):
            return _Obstacle("image is referenced in multiple repositories")
        if soft and (container := _first(uses, running=False)):
            return _Obstacle(f"image is being used by stopped container {container}", used=True)
        return None


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Why an image cannot be deleted; `used`: because of a container."""

    reason: str
    hard: bool = False
    used: bool = False

    def conflict(self, image: Image) -> Conflict:
        how = "cannot be forced" if self.hard else "must be forced"
        return Conflict(f"conflict: unable to delete {short_id(image.id)} ({how}) - {self.reason}")


def _first(uses: Iterable[ImageUse], *, running: bool) -> str | None:
    return next((short_id(use.container) for use in uses if use.running == running), None)


def _is_id_prefix(id: str, name: str) -> bool:
    return id.startswith(name) or id.partition(":")[2].startswith(name)


def is_single(references: list[Reference]) -> bool:
    """Tell whether all references are of one repository, with at most one tag."""
    if len(references) <= 1:
        return len(references) == 1
    tagged = [reference for reference in references if reference.digest is None]
    digests = {reference.name for reference in references if reference.digest is not None}
    if len(tagged) > 1:
        return False
    single = (tagged or references)[0]
    return digests == {single.name}


async def prune(store: ImageStore, filters: Filters) -> ImagesPruneReport:
    """Remove the images that nothing uses: those without a name, or with `dangling=false` all."""
    check_names(filters, _ACCEPTED)
    dangling_only = boolean(filters, "dangling", True)
    if len(filters.get("until", ())) > 1:
        raise InvalidArgument("more than one until filter specified")
    limit = next((until(value) for value in filters.get("until", ())), None)
    before = store.reclaiming.freed
    done: list[ImageDeleteItem] = []
    # One collection for all is faster; but while something comes in there is none.
    with nullcontext() if store.reclaiming.is_taking_in else store.reclaiming.postponed():
        for image in list(store.images.values()):
            if image.id in store.images and _is_prunable(store, image, filters, limit):
                done += await _prune_one(store, image, dangling_only=dangling_only)
    everything = not filters.keys() - {"dangling"}
    for chain in await store.collect(leased=everything):
        done.append(ImageDeleteItem(deleted=chain))
    report = ImagesPruneReport(images_deleted=done or None)
    report.space_reclaimed = store.reclaiming.freed - before
    return report


def _is_prunable(store: ImageStore, image: Image, filters: Filters, limit: int | None) -> bool:
    if not store.references(image.id) and store.children(image.id):
        return False
    made = image.created
    if limit is not None and (made is None or made > limit):
        return False
    if "label" in filters and not matches_labels(filters["label"], image.labels):
        return False
    unwanted = filters.get("label!", ())
    return not (unwanted and matches_labels(unwanted, image.labels))


async def _prune_one(
    store: ImageStore, image: Image, *, dangling_only: bool
) -> list[ImageDeleteItem]:
    references = store.references(image.id)
    if dangling_only and any(reference.tag for reference in references):
        return []
    done: list[ImageDeleteItem] = []
    for name in [reference.familiar for reference in references] or [image.id]:
        removal = Removal(store, force=False)
        try:
            await removal.remove(name, prune_parents=True)
        except Conflict:
            continue
        except SampanError as error:
            log.warning("failed to prune image %s: %s", name, error)
            continue
        finally:
            done += removal.done
    return done
