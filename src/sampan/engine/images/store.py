"""What images there are: configurations, references and layers, in memory and on disk.

Reading never waits. A change is written to the database first, then to memory.

This is also what pull, push, load and save are written on. An image comes in like this::

    async with store.intake():                             # nothing is removed meanwhile
        staged = store.layers.staged(digest, diff_id)       # left by an interrupted attempt?
            or await store.layers.stage(chunks, digest)     # in any order, at once
        chain = await store.layers.commit(staged, parent)   # in order, lowest first
        await store.documents.add(manifest)                 # as it came
        image = await store.add(config)                     # all its layers are there
        await store.tag(image.id, reference, target)        # visible from here on
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from sampan.engine.blocking import blocking
from sampan.engine.images.database import ImageDatabase, ImageRow
from sampan.engine.images.documents import Documents, Member
from sampan.engine.images.layers import Layers
from sampan.engine.images.model import Emit, Image, ImageUse, Name
from sampan.engine.images.names import Names
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import Digest, chain_ids
from sampan.spec.image import parse_config
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any
from sampan.storage.content import ContentStore
from sampan.storage.mounter import Mounter

_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


class ImageStore:
    """The images of this engine. Belongs to one event loop."""

    def __init__(
        self,
        content: ContentStore,
        mounter: Mounter,
        database: ImageDatabase,
        uses: Callable[[], Iterable[ImageUse]],
        emit: Emit,
    ) -> None:
        self.content, self.mounter, self.uses = content, mounter, uses
        self._database, self._emit = database, emit
        self.images: dict[str, Image] = {}
        self.names = Names()
        self.documents = Documents(content)
        self.layers = Layers(mounter, content, database)
        self._reclaiming = asyncio.Lock()  # held while layers and content are removed
        self._intakes = 0
        self._unclean = False
        self._load()

    def _load(self) -> None:
        for row in self._database.images():
            config = parse_config(self.content.read(Digest(row.id)))
            chains = tuple(chain_ids(config.diff_ids))
            self.images[row.id] = Image(row.id, config, chains, row.parent, row.last_tagged)
        for text, name in self._database.references():
            self._name(Reference.parse(text), name)

    def _name(self, reference: Reference, name: Name) -> None:
        """Note what a reference stands for, and what all others of the same target keep."""
        images = [member.image for member in self.present(name.target)]
        self.names.set(reference, name, images)
        for other in self.names.of_target(name.target) if name.target else ():
            if other != reference and (known := self.names.get(other)):
                self.names.set(other, known, images)

    # --- reading ---------------------------------------------------------------------------

    def references(self, id: str) -> list[Reference]:
        """Return the references that name an image, or an index that it is part of, sorted."""
        return self.names.of_image(id)

    def named(self, reference: Reference) -> Name | None:
        """Return what exactly this reference stands for."""
        return self.names.get(reference.with_default_tag())

    def target_of(self, reference: Reference) -> Digest | None:
        """Return the digest of the manifest or index that a reference means in a registry.

        None for an image that was made here, or of which no manifest is known. NotFound if there
        is no such reference.
        """
        name = self.named(reference)
        if name is None:
            raise NotFound(f"No such image: {reference.with_default_tag().familiar}")
        return name.target

    def is_main(self, reference: Reference, id: str) -> bool:
        """Tell whether an image is the one that a reference means on this machine."""
        kept = self.names.images(reference)
        return kept == {id} or (len(kept) > 1 and self.find(str(reference)).id == id)

    def target_for(self, name: str, image: Image) -> Digest | None:
        """Return the target that a further name of an image gets, which was called `name`."""
        meant = parse_any(name)
        if not isinstance(meant, str) and (named := self.named(meant)):
            return named.target
        if isinstance(meant, str) and self.names.of_target(meant):
            return meant
        known = (self.names.get(reference) for reference in self.references(image.id))
        return next((name.target for name in known if name and name.target), None)

    def present(self, target: Digest | None) -> list[Member]:
        """Return the images of a target that are here, in its order."""
        if target is None:
            return []
        return [member for member in self.documents.members(target) if member.image in self.images]

    def children(self, id: str) -> list[str]:
        """Return the images that were made on an image."""
        return [image.id for image in self.images.values() if image.parent == id]

    def size(self, image: Image) -> int:
        """Return the bytes of all layers of an image."""
        return sum(self.layers.size(chain) for chain in image.chains)

    def find(self, name: str, platform: Platform | None = None) -> Image:
        """Return the image that `name` means; NotFound if there is none.

        Of several platforms, `platform` or else this machine's is meant, or else the first.
        """
        found = self.find_all(name)
        if fitting := best(found, platform or Platform.host()):
            return fitting
        if platform is not None:
            raise NotFound(
                f"image with reference {name} was found but its platform"
                f" ({found[0].config.platform}) does not match the specified platform ({platform})"
            )
        return found[0]

    def find_all(self, name: str, platform: Platform | None = None) -> list[Image]:
        """Return the images that `name` means, one for each platform; NotFound if none.

        With `platform` only the one that `find` returns.
        """
        if platform is not None:
            return [self.find(name, platform)]
        meant = parse_any(name)
        found = self._find(name, meant)
        if not found:
            shown = meant if isinstance(meant, str) else meant.with_default_tag().familiar
            raise NotFound(f"No such image: {shown}")
        return found

    def _find(self, name: str, meant: Reference | Digest) -> list[Image]:
        """Return the images that a name means: several, if it stands for an index."""
        if isinstance(meant, str):
            return self._of_digest(meant)
        if named := self.named(meant):
            members = [self.images[member.image] for member in self.present(named.target)]
            return members or [self.images[named.image]]
        match = _ID_PREFIX.fullmatch(name)
        if match is None:
            return []
        prefix = f"sha256:{match[1]}"
        found = [image for image in self.images.values() if image.id.startswith(prefix)]
        return found if len(found) == 1 else []

    def _of_digest(self, digest: Digest) -> list[Image]:
        """Return the image with an id, or the images of a target."""
        if image := self.images.get(digest):
            return [image]
        if not self.names.of_target(digest):
            return []
        return [self.images[member.image] for member in self.present(digest)]

    # --- images ----------------------------------------------------------------------------

    async def add(self, config: bytes, parent: str = "") -> Image:
        """Store an image whose layers are there; return it, or the one that is there already.

        Raises InvalidArgument for what is no configuration, NotFound if a layer is missing.
        """
        parsed = parse_config(config)
        chains = tuple(chain_ids(parsed.diff_ids))
        for chain in chains:
            if chain not in self.layers.chains:
                raise NotFound(f"layer {chain} is missing")
        digest = await blocking(self.content.add, config)
        if there := self.images.get(digest):
            await self.layers.end_leases(chains)
            return there
        image = Image(digest, parsed, chains, parent)
        await blocking(self._database.add_image, ImageRow(digest, parent, 0), chains)
        self.images[digest] = image
        self.layers.forget_leases(chains)
        return image

    async def add_document(self, content: bytes, expected: Digest | None = None) -> Digest:
        """Store a manifest, an index, or a small blob that one mentions; return its digest."""
        return await self.documents.add(content, expected)

    async def set_parent(self, id: str, parent: str) -> None:
        """Note what an image was made on."""
        image = replace(self.images[id], parent=parent)
        await blocking(self._database.add_image, ImageRow(id, parent, image.last_tagged))
        self.images[id] = image

    async def tag(self, id: str, reference: Reference, target: Digest | None = None) -> None:
        """Let a reference stand for an image and the manifest or index that it is part of.

        The documents of `target` are stored before. What the reference stood for loses it.
        """
        if reference.familiar_name == "sha256":
            raise InvalidArgument(
                "refusing to create an ambiguous tag using digest algorithm as name"
            )
        reference, name, now = reference.with_default_tag(), Name(id, target), time.time_ns()
        await blocking(self._database.set_reference, str(reference), name, now)
        self.images[id] = replace(self.images[id], last_tagged=now)
        self._name(reference, name)

    async def untag(self, reference: Reference) -> Reference:
        """Take a name away; return it as it was stored."""
        reference = reference.with_default_tag()
        await blocking(self._database.delete_reference, str(reference))
        self.names.remove(reference)
        return reference

    async def delete(self, id: str) -> list[str]:
        """Remove an image that has no names, and the layers that nobody needs any more.

        Returns the chain ids of the layers that went, top first.
        """
        image = self.images[id]
        shared: list[tuple[Reference, Name]] = []  # that stand for other platforms, too
        for reference in self.names.of_image(id):
            name = self.names.get(reference)
            others = [it.image for it in self.present(name.target if name else None)]
            if name and (other := next((it for it in others if it != id), None)):
                moved = replace(name, image=other if name.image == id else name.image)
                await blocking(self._database.move_reference, str(reference), moved)
                shared.append((reference, moved))
        await blocking(self._database.delete_image, id)
        del self.images[id]
        for reference in self.names.of_image(id):
            self.names.remove(reference)
        for reference, name in shared:
            self._name(reference, name)
        return await self._release(image)

    def log(self, action: str, image: Image, name: str) -> None:
        """Emit an event."""
        self._emit(action, image.id, {**image.labels, "name": name} if name else image.labels)

    def log_prune(self, reclaimed: int) -> None:
        """Emit the event of a prune."""
        self._emit("prune", "", {"reclaimed": str(reclaimed)})

    # --- reclaiming ------------------------------------------------------------------------

    @asynccontextmanager
    async def intake(self) -> AsyncIterator[None]:
        """Keep all layers and content while new ones come in that no image has yet.

        What should have gone meanwhile, or was left by an error, goes afterwards; layers that
        were complete and can be found again are kept for a day.
        """
        async with self._reclaiming:
            self._intakes += 1
        try:
            yield
        except BaseException:
            self._unclean = True
            raise
        finally:
            self._intakes -= 1
            if self._unclean:
                await self.collect()

    def collect_later(self) -> None:
        """Have everything collected that nothing needs, as soon as no intake is going on."""
        self._unclean = True

    async def _release(self, image: Image) -> list[str]:
        """Remove what only a deleted image needed; return the layers, top first."""
        async with self._reclaiming:
            if self._intakes:
                self._unclean = True
                return []
            needed = self._needed()
            removed: list[str] = []
            for chain in reversed(image.chains):
                if chain in needed or not await self.layers.remove(chain):
                    break
                removed.append(chain)
            await self.layers.forget_unplaced()
            await self._sweep()
            return removed

    async def collect(self, *, leased: bool = False) -> list[str]:
        """Remove all layers and content that nothing needs: what crashes and containers left.

        With `leased` also what interrupted intakes had completed. Returns the chain ids of the
        layers that went.
        """
        async with self._reclaiming:
            if self._intakes:
                self._unclean = True
                return []
            self._unclean = False
            layers = self.layers
            over = list(layers.leases) if leased else layers.expired(time.time_ns())
            await layers.end_leases(over)
            snapshots = await blocking(self.mounter.snapshots)
            await layers.found(snapshots)
            needed = self._needed() | layers.leases.keys()
            parents = {
                Digest(info.key): info.parent for info in snapshots if info.kind == "committed"
            }
            below = {info.parent for info in snapshots}
            removed: list[str] = []
            waiting = [key for key in parents if key not in below]
            while waiting:
                key = waiting.pop()
                if key in needed or not await layers.remove(key):
                    continue
                removed.append(key)
                if (parent := parents[key]) is not None:
                    waiting.append(Digest(parent))
            for chain in layers.chains.keys() - parents.keys() - needed:
                await layers.forget(chain)  # it was removed, but a crash kept its row
            await layers.forget_unplaced()
            await self._sweep()
            return removed

    async def _sweep(self) -> None:
        """Remove content that no image, no reference and no layer needs."""
        known: set[str] = {layer.blob for layer in self.layers.kept() if layer.blob}
        known |= self.images.keys()
        for target in self.names.targets():
            known.update(self.documents.blobs(target, self.images))
        for digest in set(await blocking(list, self.content)) - known:
            await blocking(self.content.delete, digest)
            self.documents.forget(digest)

    def _needed(self) -> set[str]:
        return {chain for image in self.images.values() for chain in image.chains}


def best(images: list[Image], platform: Platform) -> Image | None:
    """Return the image that serves `platform` best; None if none does."""
    fitting = [image for image in images if platform.runs(image.config.platform)]
    same = [image for image in fitting if image.config.platform == platform]
    return next(iter(same or fitting), None)
