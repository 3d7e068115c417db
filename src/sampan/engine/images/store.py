"""What images there are: configurations, references and layers, in memory and on disk.

Reading never waits. A change is written to the database first, then to memory.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from sampan.engine.blocking import blocking
from sampan.engine.images.database import ImageDatabase, ImageRow, LayerRow
from sampan.engine.undisturbed import undisturbed
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.rpc import Fd
from sampan.spec.digest import Digest, chain_id, chain_ids, encoded
from sampan.spec.image import ImageConfig, parse_config
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any
from sampan.storage.content import ContentStore
from sampan.storage.intake import LayerBlob
from sampan.storage.mounter import Mounter

Emit = Callable[[str, str, Mapping[str, str]], None]  # action, image id, attributes

_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the store."""

    id: str  # sha256:… of its configuration
    config: ImageConfig
    chain_id: str | None  # the snapshot that containers are made on; None for an image of no layers
    parent: str = ""  # id of the image it was committed or built on, "" if it came from elsewhere
    last_tagged: int = 0  # nanoseconds since the epoch

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its configuration."""
        return self.config.run.labels or {}


@dataclass(frozen=True, slots=True)
class ImageUse:
    """A container, as far as images care."""

    container: str
    image: str  # sha256:…
    running: bool


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
        self.layers: dict[str, LayerRow] = {}  # by diff id
        self.sizes: dict[str, int] = {}  # bytes of the top layer, by chain id
        self._named: dict[Reference, str] = {}
        self._names: defaultdict[str, set[Reference]] = defaultdict(set)
        self._reclaiming = asyncio.Lock()  # held while layers and content are removed
        self._intakes = 0
        self._unclean = False
        self._load()

    def _load(self) -> None:
        for row in self._database.images():
            config = parse_config(self.content.read(Digest(row.id)))
            chain = chain_id(config.diff_ids)
            self.images[row.id] = Image(row.id, config, chain, row.parent, row.last_tagged)
        for text, named in self._database.references():
            self._name(Reference.parse(text), named)
        self.layers = {layer.diff_id: layer for layer in self._database.layers()}
        self.sizes = {chain: size for chain, _, size in self._database.chains()}

    def _name(self, reference: Reference, id: str) -> None:
        if old := self._named.get(reference):
            self._names[old].discard(reference)
        self._named[reference] = id
        self._names[id].add(reference)

    # --- reading ---------------------------------------------------------------------------

    def references(self, id: str) -> list[Reference]:
        """Return the references to an image, sorted."""
        return sorted(self._names.get(id, ()), key=str)

    def named(self, reference: Reference) -> str | None:
        """Return the id of the image with exactly this name."""
        return self._named.get(reference.with_default_tag())

    def tags_of(self, repository: Reference) -> list[Reference]:
        """Return all tagged references of a repository."""
        found = (known for known in self._named if known.name == repository.name and known.tag)
        return sorted(found, key=str)

    def children(self, id: str) -> list[str]:
        """Return the images that were made on an image."""
        return [image.id for image in self.images.values() if image.parent == id]

    def size(self, image: Image) -> int:
        """Return the bytes of all layers of an image."""
        return sum(self.sizes.get(chain, 0) for chain in chain_ids(image.config.diff_ids))

    def find(self, name: str, platform: Platform | None = None) -> Image:
        """Return the image that `name` means; NotFound if there is none."""
        meant = parse_any(name)
        image = self._find(name, meant)
        if image is None:
            shown = meant if isinstance(meant, str) else meant.with_default_tag().familiar
            raise NotFound(f"No such image: {shown}")
        if platform is not None and not platform.runs(image.config.platform):
            raise NotFound(
                f"image with reference {name} was found but its platform"
                f" ({image.config.platform}) does not match the specified platform ({platform})"
            )
        return image

    def _find(self, name: str, meant: Reference | Digest) -> Image | None:
        if isinstance(meant, str):
            return self.images.get(meant)
        if named := self.named(meant):
            return self.images.get(named)
        match = _ID_PREFIX.fullmatch(name)
        if match is None:
            return None
        prefix = f"sha256:{match[1]}"
        found = [image for image in self.images.values() if image.id.startswith(prefix)]
        return found[0] if len(found) == 1 else None

    # --- images ----------------------------------------------------------------------------

    async def add(self, config: bytes, parent: str = "") -> Image:
        """Store an image whose layers are there; return it, or the one that is there already."""
        parsed = parse_config(config)
        digest = await blocking(self.content.add, config)
        if there := self.images.get(digest):
            return there
        image = Image(digest, parsed, chain_id(parsed.diff_ids), parent)
        await blocking(self._database.add_image, ImageRow(digest, parent, 0))
        self.images[digest] = image
        return image

    async def set_parent(self, id: str, parent: str) -> None:
        """Note what an image was made on."""
        image = replace(self.images[id], parent=parent)
        await blocking(self._database.add_image, ImageRow(id, parent, image.last_tagged))
        self.images[id] = image

    async def tag(self, id: str, reference: Reference) -> None:
        """Give an image a name; another image loses it."""
        if reference.familiar_name == "sha256":
            raise InvalidArgument(
                "refusing to create an ambiguous tag using digest algorithm as name"
            )
        reference = reference.with_default_tag()
        now = time.time_ns()
        parent = self.images[id].parent
        await blocking(self._database.set_reference, str(reference), ImageRow(id, parent, now))
        self.images[id] = replace(self.images[id], last_tagged=now)
        self._name(reference, id)

    async def untag(self, reference: Reference) -> Reference:
        """Take a name away; return it as it was stored."""
        reference = reference.with_default_tag()
        await blocking(self._database.delete_reference, str(reference))
        named = self._named.pop(reference, None)
        if named is not None:
            self._names[named].discard(reference)
        return reference

    async def delete(self, id: str) -> list[str]:
        """Remove an image that has no names, and the layers that nobody needs any more.

        Returns the chain ids of the layers that went, top first.
        """
        image = self.images[id]
        await blocking(self._database.delete_image, id)
        del self.images[id]
        self._names.pop(id, None)
        return await self._release(image)

    def log(self, action: str, image: Image, name: str) -> None:
        """Emit an event."""
        self._emit(action, image.id, {**image.labels, "name": name} if name else image.labels)

    def log_prune(self, reclaimed: int) -> None:
        """Emit the event of a prune."""
        self._emit("prune", "", {"reclaimed": str(reclaimed)})

    # --- layers ----------------------------------------------------------------------------

    @asynccontextmanager
    async def intake(self) -> AsyncIterator[None]:
        """Keep all layers and content while new ones come in that no image has yet.

        What should have gone meanwhile, or was left by an error, goes afterwards.
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

    async def add_layer(self, fd: int, layer: LayerBlob, chain: str, parent: str | None) -> None:
        """Unpack a layer, whose archive `fd` is, as the snapshot `chain`."""
        staged = f"staged-{encoded(Digest(chain))}"
        unpacked = await undisturbed(self.mounter.unpack, Fd(fd), staged, parent)
        try:
            await undisturbed(self.mounter.commit, staged, chain, parent)
        except BaseException:
            await undisturbed(self.mounter.remove, staged)
            raise
        row = LayerRow(
            layer.diff_id, layer.blob, layer.blob_size, layer.plain_size, layer.media_type
        )
        await blocking(self._database.add_layer, row, chain, unpacked.size)
        self.layers.setdefault(layer.diff_id, row)
        self.sizes[chain] = unpacked.size

    async def _release(self, image: Image) -> list[str]:
        """Remove what only a deleted image needed; return the layers, top first."""
        async with self._reclaiming:
            if self._intakes:
                self._unclean = True
                return []
            if image.id not in self.images:
                await blocking(self.content.delete, Digest(image.id))
            needed = self._needed()
            removed: list[str] = []
            for chain in reversed(list(chain_ids(image.config.diff_ids))):
                if chain in needed or not await self._remove_chain(chain):
                    break
                removed.append(chain)
            await self._release_blobs()
            return removed

    async def collect(self) -> list[str]:
        """Remove all layers and content that nothing needs: what crashes and containers left."""
        async with self._reclaiming:
            if self._intakes:
                self._unclean = True
                return []
            self._unclean = False
            needed = self._needed()
            snapshots = await blocking(self.mounter.snapshots)
            for info in snapshots:
                if info.kind == "staged":
                    await blocking(self.mounter.remove, info.key)
            parents = {info.key: info.parent for info in snapshots if info.kind == "committed"}
            below = {info.parent for info in snapshots if info.kind != "staged"}
            removed: list[str] = []
            waiting = [key for key in parents if key not in below]
            while waiting:
                key = waiting.pop()
                if key in needed or not await self._remove_chain(key):
                    continue
                removed.append(key)
                if (parent := parents[key]) is not None:
                    waiting.append(parent)
            for chain in self.sizes.keys() - parents.keys() - needed:
                await self._forget_chain(chain)  # it was removed, but a crash kept its row
            await self._release_blobs()
            await self._sweep()
            return removed

    async def _remove_chain(self, chain: str) -> bool:
        """Remove a snapshot of a layer; False if something stands on it."""
        try:
            await blocking(self.mounter.remove, chain)
        except Conflict:
            return False
        await self._forget_chain(chain)
        return True

    async def _forget_chain(self, chain: str) -> None:
        await blocking(self._database.delete_chain, chain)
        self.sizes.pop(chain, None)

    async def _release_blobs(self) -> None:
        used = {diff_id for image in self.images.values() for diff_id in image.config.diff_ids}
        for diff_id in set(self.layers) - used:
            layer = self.layers.pop(diff_id)
            await blocking(self._database.delete_layer, diff_id)
            await blocking(self.content.delete, Digest(layer.blob))

    async def _sweep(self) -> None:
        """Remove content that is neither a configuration nor a layer."""
        known = {layer.blob for layer in self.layers.values()} | self.images.keys()
        for digest in set(await blocking(list, self.content)) - known:
            await blocking(self.content.delete, digest)

    def _needed(self) -> set[str]:
        return {
            chain for image in self.images.values() for chain in chain_ids(image.config.diff_ids)
        }
