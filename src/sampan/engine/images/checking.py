"""The checker: everything that the store promises, asked of the disk.

All digests are computed again, all references are followed, and the database and the disk are
compared both ways. What is repaired loses nothing that was whole: rows without content go, content
without rows goes, and an image goes only if a part of it is gone for good.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sampan.engine.blocking import blocking, in_own_thread
from sampan.engine.images.database import Chain
from sampan.engine.images.model import Image, Layer
from sampan.engine.images.store import ImageStore
from sampan.engine.undisturbed import waited_for
from sampan.errors import NotFound, SampanError
from sampan.spec.digest import Digest
from sampan.spec.names import short_id
from sampan.spec.storage import CheckCounts, CheckProblem, CheckReport
from sampan.storage.mounter import SnapshotInfo

log = logging.getLogger(__name__)

Repair = Callable[[], Awaitable[object]]
MOUNTS: Final = Path("/proc/self/mountinfo")


@dataclass(slots=True)
class _Found:
    problem: CheckProblem
    repair: Repair | None


class Check:
    """One check. `containers` gives the ids of all containers, also of those being made."""

    def __init__(
        self, store: ImageStore, root: Path, containers: Callable[[], Collection[str]]
    ) -> None:
        self._store, self._root, self._containers = store, root, containers
        self._counts = CheckCounts()
        self._found: list[_Found] = []
        self._bad_blobs: set[Digest] = set()
        self._bad_chains: dict[str, str] = {}  # with what is wrong
        self._snapshots: dict[str, SnapshotInfo] = {}

    async def run(self, *, repair: bool) -> CheckReport:
        """Look at everything; with `repair`, mend what can be mended."""
        store = self._store
        async with store.intake():  # nothing goes meanwhile
            self._snapshots = await self._listed()
            loose = self._loose_containers(self._snapshots)
            await self._check_blobs()
            await self._check_layers()
            # All that takes long, and others may come in beside it: compared is what is here now.
            chains, images = list(store.layers.chains), list(store.images.values())
            self._snapshots = await self._listed()
            self._check_places(chains)
            self._check_images(images)
            self._check_references()
        await self._check_leftovers(loose)
        self._check_mounts(await blocking(MOUNTS.read_text))
        if repair:
            for found in self._found:
                await self._mend(found)
            await store.collect()
        return CheckReport(problems=[found.problem for found in self._found], checked=self._counts)

    async def _listed(self) -> dict[str, SnapshotInfo]:
        return {info.key: info for info in await blocking(self._store.mounter.snapshots)}

    async def _mend(self, found: _Found) -> None:
        if found.repair is None:
            return
        try:
            await found.repair()
        except SampanError as error:
            log.warning("%s, and cannot be repaired: %s", found.problem.message, error)
            return
        log.info("repaired: %s", found.problem.message)
        found.problem.repaired = True

    def _tell(self, kind: str, object: str, message: str, repair: Repair | None = None) -> None:
        self._found.append(_Found(CheckProblem(kind=kind, object=object, message=message), repair))

    # --- content ---------------------------------------------------------------------------

    async def _check_blobs(self) -> None:
        content = self._store.content
        for digest in await blocking(list, content):
            try:
                size = await blocking(content.size, digest)
                whole = await waited_for(in_own_thread(content.verify, digest))
            except NotFound:
                continue
            self._counts.blobs += 1
            self._counts.bytes += size
            if not whole:
                self._bad_blobs.add(digest)
                message = f"The content {digest} is not what its digest says"
                self._tell("blob", digest, message, partial(self._drop_blob, digest))
        for layer in self._store.layers.kept():
            if layer.blob and not await blocking(content.has, layer.blob):
                message = f"The archive {layer.blob} of the layer {layer.diff_id} is missing"
                forget = partial(self._store.layers.forget_archive, layer.diff_id)
                self._tell("blob", layer.blob, message, forget)

    async def _drop_blob(self, digest: Digest) -> None:
        await blocking(self._store.content.delete, digest)
        self._store.documents.forget(digest)
        for layer in self._store.layers.kept():
            if layer.blob == digest:
                await self._store.layers.forget_archive(layer.diff_id)

    # --- layers ----------------------------------------------------------------------------

    async def _check_layers(self) -> None:
        layers = self._store.layers
        for info in self._snapshots.values():
            if info.kind != "committed":
                continue
            self._counts.layers += 1
            self._counts.bytes += info.plain_size
            verify = self._store.mounter.verify
            wrong = await waited_for(in_own_thread(verify, info.key))
            if wrong and not self._has_archive(info):
                self._bad_chains[info.key] = "; ".join(wrong)
                message = f"The layer {info.key} is broken: {self._bad_chains[info.key]}"
                self._tell("layer", info.key, message, partial(self._drop_layer, Digest(info.key)))
            elif info.key not in layers.chains and self._is_needed(info.key):
                message = f"The layer {info.key} is not in the database"
                self._tell("layer", info.key, message, partial(self._add_layer, info))

    def _check_places(self, chains: list[Digest]) -> None:
        layers = self._store.layers
        for chain in chains:
            if chain not in self._snapshots and chain in layers.chains:
                self._bad_chains[chain] = "it is missing"
                message = f"The layer {chain} is in the database, and not on the disk"
                self._tell("layer", chain, message, partial(layers.forget, chain))

    def _has_archive(self, info: SnapshotInfo) -> bool:
        """Tell whether a layer is one of an older engine, which kept archives for recipes."""
        layer = self._store.layers.find(info.diff_id)
        return not info.plain_size and layer is not None and layer.blob is not None

    def _is_needed(self, chain: str) -> bool:
        return any(chain in image.chains for image in self._store.images.values())

    async def _add_layer(self, info: SnapshotInfo) -> None:
        diff_id = Digest(info.diff_id)
        chain = Chain(Digest(info.key), diff_id, info.size)
        await self._store.layers.add(Layer(diff_id, info.plain_size), chain)

    async def _drop_layer(self, chain: Digest) -> None:
        """Remove a broken layer with the images that cannot do without it."""
        if not await waited_for(in_own_thread(self._store.mounter.verify, chain)):
            self._bad_chains.pop(chain, None)
            return  # it has gone, and has come again whole
        for image in [it for it in self._store.images.values() if chain in it.chains]:
            await self._drop_image(image.id)
        await self._store.collect(leased=True)
        if chain in self._store.layers.chains:
            raise NotFound("a container stands on it")

    # --- images and references -------------------------------------------------------------

    def _check_images(self, images: list[Image]) -> None:
        for broken, reason in self._store.broken.items():
            message = f"The image {short_id(broken)} cannot be read: {reason}"
            self._tell("image", broken, message, partial(self._store.forget_broken, broken))
        for image in [it for it in images if it.id in self._store.images]:
            self._counts.images += 1
            if reason := self._wrong_with(image):
                message = f"The image {short_id(image.id)} is broken: {reason}"
                self._tell("image", image.id, message, partial(self._drop_broken, image.id))

    def _wrong_with(self, image: Image) -> str:
        if Digest(image.id) in self._bad_blobs:
            return "its configuration is not what its digest says"
        if not self._store.content.has(Digest(image.id)):
            return "its configuration is missing"
        for chain in image.chains:
            if reason := self._bad_chains.get(chain):
                return f"its layer {chain}: {reason}"
            if chain not in self._snapshots:
                return f"its layer {chain} is missing"
        return ""

    async def _drop_broken(self, id: str) -> None:
        image = self._store.images.get(id)
        if image and self._wrong_with(image):
            await self._drop_image(id)

    async def _drop_image(self, id: str) -> None:
        store = self._store
        if id not in store.images:
            return
        users = [use.container for use in store.uses() if use.image == id]
        if users:
            raise NotFound(f"the container {short_id(users[0])} is made of it")
        for child in store.children(id):
            await store.set_parent(child, "")
        for reference in store.references(id):
            name = store.names.get(reference)
            if name and {it.image for it in store.present(name.target)} <= {id}:
                await store.untag(reference)
        await store.delete(id)

    def _check_references(self) -> None:
        for text in self._store.broken_references:
            message = f"The reference {text} names no image that is there"
            self._tell("reference", text, message, partial(self._store.forget_reference, text))
        for reference, name in self._store.names.all():
            self._counts.references += 1
            target = name.target
            if target is None:
                continue
            if not self._store.content.has(target) or target in self._bad_blobs:
                message = f"The manifest {target} of {reference.familiar} is missing or broken"
                forget = partial(self._store.forget_target, reference)
                self._tell("reference", reference.familiar, message, forget)

    # --- what belongs to nothing -----------------------------------------------------------

    async def _check_leftovers(self, loose: set[str]) -> None:
        left = await self._store.reclaiming.leftovers()
        for digest in left.blobs - self._bad_blobs:
            self._tell("blob", digest, f"The content {digest} belongs to nothing", _collected)
        for path in left.files:
            message = f"The file {path} below the content belongs to nothing"
            self._tell("blob", str(path), message, partial(blocking, path.unlink, True))
        for key in left.snapshots:
            self._tell("layer", key, f"The layer {key} belongs to no image", _collected)
        snapshots = await self._listed()
        for key in loose & self._loose_containers(snapshots):
            message = f"The file system {short_id(key)} belongs to no container"
            self._tell(
                "container", key, message, partial(blocking, self._store.mounter.remove, key)
            )
        for key in set(self._containers()) - snapshots.keys() - self._snapshots.keys():
            self._tell("container", key, f"The container {short_id(key)} has no file system")

    def _loose_containers(self, snapshots: dict[str, SnapshotInfo]) -> set[str]:
        active = {info.key for info in snapshots.values() if info.kind == "active"}
        return active - set(self._containers())

    def _check_mounts(self, table: str) -> None:
        """Tell of mounts of snapshots in the file system tree: ours are never attached to it."""
        below = str(self._root / "snapshots") + "/"
        for line in table.splitlines():
            self._counts.mounts += 1
            point = line.split(" ")[4].encode().decode("unicode_escape")
            if point.startswith(below) and point.count("/") > below.count("/"):
                self._tell("mount", point, f"The mount at {point} was left behind")


async def _collected() -> None:
    """Do nothing now: the collection after all repairs takes it."""
