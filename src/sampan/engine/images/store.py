"""What images there are: configurations, references and layers, in memory and on disk.

Reading never waits. A change is written to the database first, then to memory.

This is also what pull, push, load and save are written on. An image comes in like this::

    async with store.intake(), store.layers.wanted(chains):  # nothing of it goes meanwhile
        staged = store.layers.staged(digest, diff_id)       # left by an interrupted attempt?
            or await store.layers.stage(chunks, digest)     # in any order, at once
        chain = await store.layers.commit(staged, parent)   # in order, lowest first
        await store.documents.add(manifest)                 # as it came
        image = await store.add(config)                     # all its layers are there
        await store.tag(image.id, reference, target)        # visible from here on
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from sampan.engine.blocking import blocking
from sampan.engine.images.database import ImageDatabase, ImageRow
from sampan.engine.images.documents import Documents, Member
from sampan.engine.images.layers import Layers
from sampan.engine.images.model import Emit, Image, ImageUse, Name
from sampan.engine.images.names import Names
from sampan.engine.images.reclaiming import Reclaiming
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.spec.digest import Digest, chain_ids
from sampan.spec.image import parse_config
from sampan.spec.names import short_id
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any
from sampan.storage.content import ContentStore
from sampan.storage.mounter import Mounter

log = logging.getLogger(__name__)

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
        self.broken: dict[str, str] = {}  # images that cannot be read, and why
        self.broken_references: list[str] = []  # to those
        self.names = Names()
        self.documents = Documents(content)
        self.layers = Layers(mounter, content, database)
        self._changing = asyncio.Lock()  # held while images come and go
        self._awaiting = database.awaiting_names()
        self.reclaiming = Reclaiming(self.images, self.names, self.documents, self.layers)
        self._load()

    def _load(self) -> None:
        for row in self._database.images():
            try:
                config = parse_config(self.content.read(Digest(row.id)))
            except (NotFound, InvalidArgument) as error:
                log.warning("the image %s cannot be read: %s", row.id, error)
                self.broken[row.id] = str(error)
                continue
            chains = tuple(chain_ids(config.diff_ids))
            self.images[row.id] = Image(row.id, config, chains, row.parent, row.last_tagged)
        for text, name in self._database.references():
            here = [name.image] if name.image in self.images else []
            here += [member.image for member in self.present(name.target)]
            if here:
                self._name(Reference.parse(text), replace(name, image=here[0]))
            else:
                self.broken_references.append(text)

    def _name(self, reference: Reference, name: Name) -> None:
        """Note what a reference stands for, and what all others of the same target keep."""
        images = [self.images[member.image] for member in self.present(name.target)]
        main = best(images, Platform.host()) or (images[0] if images else None)
        ids = [image.id for image in images]
        self.names.set(reference, name, ids, main.id if main else name.image)
        for other in self.names.of_target(name.target) if name.target and len(ids) > 1 else ():
            if other != reference and (known := self.names.get(other)):
                self.names.set(other, known, ids, main.id if main else known.image)

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
        return self.names.main(reference) == id

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

    async def add(self, config: bytes, parent: str = "", *, awaits_name: bool = False) -> Image:
        """Store an image whose layers are there; return it, or the one that is there already.

        One that awaits a name goes at the next start, should whoever makes it be killed before.
        Raises InvalidArgument for what is no configuration, NotFound if a layer is missing.
        """
        parsed = parse_config(config)
        chains = tuple(chain_ids(parsed.diff_ids))
        for chain in chains:
            if chain not in self.layers.chains:
                raise NotFound(f"layer {chain} is missing")
        digest = await blocking(self.content.add, config)
        async with self._changing:
            self.reclaiming.claim(digest)
            if there := self.images.get(digest):
                await self.layers.end_leases(chains)
                if digest in self._awaiting and not awaits_name:
                    await blocking(self._database.await_no_names, [digest])
                    self._awaiting.discard(digest)
                return there
            image = Image(digest, parsed, chains, parent)
            row = ImageRow(digest, parent, 0)
            await blocking(self._database.add_image, row, chains, awaits_name=awaits_name)
            if awaits_name:
                self._awaiting.add(digest)
            self.images[digest] = image
        self.layers.forget_leases(chains)
        return image

    async def take(self, id: str) -> Image | None:
        """Return an image that is here; nobody deletes it before it has a name, or the intake ends.

        None if it is not here.
        """
        async with self._changing:
            image = self.images.get(id)
            if image is not None:
                self.reclaiming.claim(id)
            return image

    async def add_document(self, content: bytes, expected: Digest | None = None) -> Digest:
        """Store a manifest, an index, or a small blob that one mentions; return its digest."""
        return await self.documents.add(content, expected)

    async def set_parent(self, id: str, parent: str) -> None:
        """Note what an image was made on, if both are still there."""
        async with self._changing:
            if id in self.images and (not parent or parent in self.images):
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
        async with self._changing:
            if id not in self.images:
                raise NotFound(f"No such image: {id}")
            old = self.names.get(reference)
            named = self._awaiting & {id, *(member.image for member in self.present(target))}
            await blocking(self._database.set_reference, str(reference), name, now, named)
            self._awaiting -= named
            self.images[id] = replace(self.images[id], last_tagged=now)
            self._name(reference, name)
            self.reclaiming.claimed.discard(id)
        await self._release_target(old)

    async def untag(self, *references: Reference, going: Iterable[str] = ()) -> list[Reference]:
        """Take names away, all or none; return them as they were stored.

        Images among `going` that have no name then are to be removed: `delete` or `keep` them. If
        the engine is killed meanwhile, the next one removes them at its start.
        """
        stored = [reference.with_default_tag() for reference in references]
        async with self._changing:
            last = {it for it in going if it in self.images}
            last -= {it for it in last if set(self.names.of_image(it)) - set(stored)}
            await blocking(self._database.delete_references, [str(it) for it in stored], last)
            self._awaiting |= last
            names = [self.names.remove(reference) for reference in stored]
        for name in names:
            await self._release_target(name)
        return stored

    async def keep(self, ids: Iterable[str]) -> None:
        """Let images stay that were to go with their names."""
        if kept := self._awaiting.intersection(ids) & self.images.keys():
            await blocking(self._database.await_no_names, kept)
            self._awaiting -= kept

    async def _release_target(self, name: Name | None) -> None:
        """Remove the documents of what a reference stood for, if nothing else stands for it."""
        if name and name.target and not self.names.of_target(name.target):
            await self.reclaiming.tidy()

    async def delete(self, id: str) -> list[str]:
        """Remove an image that has no names, and the layers that nobody needs any more.

        Returns the chain ids of the layers that went, top first.
        """
        async with self._changing:
            if id in self.reclaiming.claimed:
                raise Conflict(f"image {short_id(id)} is just coming in")
            image = self.images.get(id)
            if image is None:  # somebody else was faster
                raise NotFound(f"No such image: {short_id(id)}")
            shared = await self._leave_to_others(id)
            if len(self.names.of_image(id)) > len(shared):
                raise Conflict(f"image {short_id(id)} has got another name")
            await blocking(self._database.delete_image, id)
            del self.images[id]
            self._awaiting.discard(id)
            for reference in self.names.of_image(id):
                self.names.remove(reference)
            for reference, name in shared:
                self._name(reference, name)
        return await self.reclaiming.release(image)

    async def _leave_to_others(self, id: str) -> list[tuple[Reference, Name]]:
        """Let the names of an image that other platforms have, too, name one of those."""
        shared: list[tuple[Reference, Name]] = []
        for reference in self.names.of_image(id):
            name = self.names.get(reference)
            others = [it.image for it in self.present(name.target if name else None)]
            if name and (other := next((it for it in others if it != id), None)):
                moved = replace(name, image=other if name.image == id else name.image)
                await blocking(self._database.move_reference, str(reference), moved)
                shared.append((reference, moved))
        return shared

    async def delete_unnamed(self) -> None:
        """Delete the images whose makers were killed before they had their names, or lost them.

        What somebody has made of one of them keeps it.
        """
        used = {use.image for use in self.uses()}
        for image in list(self._awaiting & self.images.keys()):
            if not (image in used or self.references(image) or self.children(image)):
                log.info("the image %s is removed: it has no name", image)
                await self.delete(image)
        await blocking(self._database.await_no_names, self._awaiting)
        self._awaiting.clear()

    async def forget_broken(self, id: str) -> None:
        """Forget an image that cannot be read, and its names."""
        await blocking(self._database.delete_image, id)
        self.broken.pop(id, None)

    async def forget_reference(self, text: str) -> None:
        """Forget a reference to nothing."""
        await blocking(self._database.delete_references, [text])
        self.broken_references.remove(text)

    async def forget_target(self, reference: Reference) -> None:
        """Let a reference stand for its image alone: the documents of its target are lost."""
        async with self._changing:
            if name := self.names.get(reference):
                alone = replace(name, target=None)
                await blocking(self._database.move_reference, str(reference), alone)
                self._name(reference, alone)

    def log(self, action: str, image: Image, name: str) -> None:
        """Emit an event."""
        self._emit(action, image.id, {**image.labels, "name": name} if name else image.labels)

    def log_prune(self, reclaimed: int) -> None:
        """Emit the event of a prune."""
        self._emit("prune", "", {"reclaimed": str(reclaimed)})

    # --- reclaiming ------------------------------------------------------------------------

    def intake(self) -> AbstractAsyncContextManager[None]:
        """Keep all content, and the layers that are `layers.wanted`, while new ones come in.

        What should have gone meanwhile, or was left by an error, goes afterwards; layers that
        were complete and can be found again are kept for a day.
        """
        return self.reclaiming.intake()

    async def collect(self, *, leased: bool = False) -> list[str]:
        """Remove all layers and content that nothing needs: what crashes and containers left.

        With `leased` also what interrupted intakes had completed. Returns the chain ids of the
        layers that went.
        """
        return await self.reclaiming.collect(leased=leased)


def best(images: list[Image], platform: Platform) -> Image | None:
    """Return the image that serves `platform` best; None if none does."""
    fitting = [image for image in images if platform.runs(image.config.platform)]
    same = [image for image in fitting if image.config.platform == platform]
    return next(iter(same or fitting), None)
