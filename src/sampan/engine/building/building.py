"""What builds need of the engine: base images, layers, files of layers, steps in containers.

Source: moby daemon/builder/dockerfile/containerbackend.go, daemon/builder/backend.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol, TypeVar

import msgspec

from sampan.distribution.credentials import Credentials
from sampan.engine.blocking import blocking
from sampan.engine.building.layers import BuiltLayers
from sampan.engine.building.mounted_caches import MountedCaches
from sampan.engine.building.steps import Change, Steps
from sampan.engine.containers.containers import Containers
from sampan.engine.images.archives.fetching import fetched
from sampan.engine.images.feeding import from_pipe, through_pipe
from sampan.engine.images.images import Images
from sampan.engine.images.model import Image
from sampan.engine.oci.cdi import DeviceNames
from sampan.engine.repositories import archive_of
from sampan.engine.undisturbed import waited_for
from sampan.engine.volumes.volumes import Volumes
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.http.urls import Url
from sampan.rpc import Fd
from sampan.spec.build import (
    BaseImage,
    FoundDevice,
    Ran,
    Repository,
    RunStep,
)
from sampan.spec.digest import Digest
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.image import ImageConfig, RootFS, timestamp
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any
from sampan.storage.lender import Lender
from sampan.storage.mounter import Mounter, PathStat

T = TypeVar("T")
_LOADED: Final = "Loaded image ID: "


class Clients(Protocol):
    """Whoever builds; see build.worker.Clients."""

    async def credentials(self, reference: Reference) -> Credentials | None:
        """Return what the client shows to the registry of an image."""


class Building:
    """The engine as the worker of builds; see build.worker.Worker."""

    def __init__(
        self,
        images: Images,
        containers: Containers,
        mounter: Mounter,
        lender: Lender,
        device_names: DeviceNames,
        volumes: Volumes,
    ) -> None:
        self._images, self._mounter, self._device_names = images, mounter, device_names
        self._layers = images.store.layers
        self._built = BuiltLayers(self._layers)
        self.steps = Steps(containers, self._built, mounter, lender)
        self.mounted_caches = MountedCaches(volumes, self.steps)

    # --- images and layers -----------------------------------------------------------------

    def intake(self) -> AbstractAsyncContextManager[None]:
        """Keep everything that comes in until a build has ended."""
        return self._images.store.intake()

    async def base(
        self,
        name: str,
        platform: Platform | None,
        *,
        pull: bool,
        clients: Clients,
        say: Callable[[ProgressMessage], None],
    ) -> BaseImage:
        """Return an image, fetched from its registry if it is not here or with `pull`."""
        meant = parse_any(name)
        if not pull or not isinstance(meant, Reference):
            try:
                return self._named(name, await self._images.resolve(name, platform))
            except NotFound:
                if not isinstance(meant, Reference):
                    raise
        reference = meant.with_default_tag()
        credentials = await clients.credentials(reference)
        messages = self._images.pull(reference, platform=platform, credentials=credentials)
        async for message in messages:
            say(message)
        return self._named(name, await self._images.resolve(name, platform))

    def _named(self, name: str, image: Image) -> BaseImage:
        digest = self._images.store.target_for(name, image) or ""
        return BaseImage(id=image.id, config=image.config, digest=digest)

    async def load(self, archive: AsyncIterable[bytes]) -> BaseImage:
        """Return the one image of an archive; its layers are kept for the cache."""
        store = self._images.store
        known = set(store.images)
        loaded = [
            message.stream.removeprefix(_LOADED).strip()
            async for message in self._images.load(archive)
            if message.stream.startswith(_LOADED)
        ]
        if len(loaded) != 1:
            raise InvalidArgument("the layout does not hold exactly one image")
        image = store.images[loaded[0]]
        self.keep_layers(image.chains[-1:])
        if image.id in known:
            return _base(image)
        store.reclaiming.claimed.discard(image.id)
        await waited_for(store.delete(image.id))  # nobody has asked for an image
        return BaseImage(id="", config=image.config)

    async def image(self, name: str) -> BaseImage:
        """Return an image that is here; NotFound, InvalidArgument."""
        return _base(await self._images.resolve(name))

    def has_layer(self, chain: str) -> bool:
        """Tell whether a layer is there."""
        return Digest(chain) in self._layers.chains

    def layer_size(self, chain: str) -> int:
        """Return the bytes of the files of a layer."""
        return self._layers.size(chain)

    def layers_of_images(self) -> Collection[str]:
        """Return the layers that images have."""
        return {chain for image in self._images.store.images.values() for chain in image.chains}

    def space(self) -> tuple[int, int]:
        """Return the bytes of the disk that layers are on: those free, and all."""
        status = os.statvfs(self._images.store.content.folder)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    def keep_layers(self, chains: Iterable[str]) -> None:
        """Keep layers for the cache, until they are released."""
        self._layers.cached.update(chains)

    def release_layers(self, chains: Iterable[str]) -> None:
        """Keep layers for the cache no longer."""
        self._layers.cached.subtract(chains)
        self._images.store.reclaiming.collect_later()

    async def collect(self) -> None:
        """Remove the layers that nothing needs any more."""
        await self._images.collect_quietly()

    async def layer(self, parent: str | None, write: Callable[[int], None]) -> str:
        """Make a layer of an archive; return its diff id, "" if it changes nothing."""
        return await self._built.make(parent, write)

    async def bring(self, parent: str | None, diff_id: str, pieces: AsyncIterator[bytes]) -> None:
        """Put a layer on its parent; InvalidArgument if it is another one."""
        await self._built.bring(parent, diff_id, pieces)

    async def config(self, image: str) -> bytes:
        """Return the configuration of an image that is here."""
        return await blocking(self._images.store.content.read, Digest(image))

    async def add_image(self, config: bytes, *, awaits_name: bool) -> str:
        """Store an image whose layers are there; return its id."""
        return (await self._images.store.add(config, awaits_name=awaits_name)).id

    async def tag(self, image: str, name: str) -> str:
        """Give an image a name; return it as users write it."""
        reference = Reference.parse(name).with_default_tag()
        await self._images.store.tag(image, reference)
        self._images.store.log("tag", self._images.store.images[image], reference.familiar)
        return reference.familiar

    # --- files of a state ------------------------------------------------------------------

    async def stat(self, chain: str | None, path: str) -> PathStat | None:
        """Return what a path is, None if nothing; a link is the link itself."""
        if chain is None:
            return None
        try:
            return await blocking(self._mounter.stat, chain, path)
        except NotFound:
            return None

    async def pack(self, chain: str | None, path: str, read: Callable[[int], T]) -> T:
        """Return what `read` makes of the archive of a path."""
        if chain is None:
            raise NotFound(f"Could not find the file {path}")
        async with from_pipe(lambda fd: self._mounter.pack(chain, path, Fd(fd))) as pieces:
            return await through_pipe(pieces, read)

    async def unpacked(self, diff_id: str, read: Callable[[int], T]) -> T:
        """Return what `read` makes of the archive of a layer."""
        async with self._layers.packed(diff_id) as pieces:
            return await through_pipe(pieces, read)

    async def download(self, url: str, read: Callable[[int], T]) -> T:
        """Return what `read` makes of the body of a web page."""
        async with fetched(Url.parse(url)) as page:
            return await through_pipe(page.chunks, read)

    async def repository(self, repository: Repository, read: Callable[[int], T]) -> T:
        """Return what `read` makes of the archive of a commit."""
        return await archive_of(repository, read)

    async def undivided(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what something gives; it goes on to its end if the build is cancelled."""
        return await waited_for(work)

    # --- threads ---------------------------------------------------------------------------

    async def call(self, func: Callable[[], T]) -> T:
        """Return what a function returns that is called in a thread."""
        return await waited_for(blocking(func))

    async def feed(self, chunks: AsyncIterable[bytes], read: Callable[[int], T]) -> T:
        """Return what `read` makes of chunks that its pipe gives."""
        return await through_pipe(chunks, read)

    def written(
        self, write: Callable[[int], None]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give what `write` writes to a pipe, in a thread."""
        return from_pipe(write)

    def scratch(self) -> int:
        """Return a file without a name."""
        return self._images.store.content.scratch()

    # --- containers ------------------------------------------------------------------------

    async def devices(self, name: str) -> Sequence[FoundDevice]:
        """Return the devices of a name, a class or a kind; none if there is no such."""
        return await self.call(lambda: self._device_names.find(name))

    async def run(
        self,
        step: RunStep,
        started: Callable[[str], None],
        output: Callable[[int, bytes], None],
        change: Change | None = None,
    ) -> Ran:
        """Run a step in a container of its own, which is gone afterwards."""
        return await self.steps.run(step, started, output, change)

    @asynccontextmanager
    async def temporary_image(self, diff_ids: Sequence[str]) -> AsyncIterator[str]:
        """Have an image of layers that are there; give its id."""
        host = Platform.host()
        config = ImageConfig(
            architecture=host.architecture,
            os=host.os,
            created=timestamp(time.time_ns()),
            comment=secrets.token_hex(8),  # so that it is nobody else's
            rootfs=RootFS(diff_ids=list(diff_ids)),
        )
        store = self._images.store
        image = await store.add(msgspec.json.encode(config), awaits_name=True)
        try:
            yield image.id
        finally:
            store.reclaiming.claimed.discard(image.id)
            with suppress(SampanError):
                await waited_for(store.delete(image.id))


def _base(image: Image) -> BaseImage:
    return BaseImage(id=image.id, config=image.config)
