"""What builds need of the engine: base images, layers, files of layers, steps in containers.

Source: moby daemon/builder/dockerfile/containerbackend.go, daemon/builder/backend.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol, TypeVar

import msgspec

from sampan.distribution.credentials import Credentials
from sampan.engine.agents import forwarded
from sampan.engine.blocking import blocking
from sampan.engine.containers.borrowing import Borrowed
from sampan.engine.containers.containers import Containers
from sampan.engine.containers.queries import AttachQuery, ListQuery
from sampan.engine.images.feeding import from_pipe, through_pipe
from sampan.engine.images.fetching import fetched
from sampan.engine.images.images import Images
from sampan.engine.images.model import Image
from sampan.engine.oci.cdi import DeviceNames
from sampan.engine.repositories import archive_of
from sampan.engine.undisturbed import waited_for
from sampan.engine.volumes.volumes import Volumes
from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError, Unsupported
from sampan.http.urls import Url
from sampan.rpc import Fd
from sampan.spec.build import (
    BaseImage,
    FoundDevice,
    Limits,
    MountedCache,
    OwnedFolder,
    Ran,
    Repository,
    RunStep,
)
from sampan.spec.digest import EMPTY_LAYER, Digest
from sampan.spec.docker.config import Config, DeviceRequest, HostConfig, LogConfig, Mount
from sampan.spec.docker.containers import CreateRequest
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.image import Healthcheck, ImageConfig, RootFS, RunConfig, timestamp
from sampan.spec.loan import Loan
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference, parse_any
from sampan.storage.lender import Lender
from sampan.storage.mounter import ExtractOptions, Mounter, PathStat
from sampan.storage.tar_fields import DIRECTORY, Entry
from sampan.storage.tar_writer import TarWriter

log = logging.getLogger(__name__)
T = TypeVar("T")
LABEL: Final = "org.sampan.build"  # of the containers of steps: they go when the engine starts
_HUB: Final = "https://index.docker.io/v1/"
_FRAME: Final = 8  # bytes of the header of a frame
_READ: Final = 64 << 10
_LOADED: Final = "Loaded image ID: "


class Clients(Protocol):
    """Whoever builds; see build.worker.Clients."""

    async def credentials(self, reference: Reference) -> Credentials | None:
        """Return what the client shows to the registry of an image."""


class Change(Protocol):
    """Something that changes an archive."""

    def read(self, fd: int) -> None:
        """Take it from a pipe."""

    def write(self, into: int) -> None:
        """Write it to a pipe."""


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
        self._volumes = volumes
        self._images, self._containers = images, containers
        self._mounter, self._lender, self._device_names = mounter, lender, device_names
        self._layers = images.store.layers

    async def clean(self) -> None:
        """Remove the containers of steps that a killed engine has left."""
        query = ListQuery(all=True, filters={"label": [LABEL]})
        for container in await self._containers.list(query):
            with suppress(SampanError):
                await self._containers.remove(container.id, force=True, volumes=True)
                log.info("container %s of an interrupted build is removed", container.id)

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
        below = Digest(parent) if parent else None
        async with from_pipe(write) as pieces:
            staged = await self._layers.stage(pieces, parent=below)
        if staged.diff_id == EMPTY_LAYER:
            await self._layers.discard(staged)
            return ""
        await self._layers.commit(staged, below, lease=False)
        return staged.diff_id

    async def bring(self, parent: str | None, diff_id: str, pieces: AsyncIterator[bytes]) -> None:
        """Put a layer, whose archive (any compression) comes, on its parent.

        Raises InvalidArgument if it is another one.
        """
        below = Digest(parent) if parent else None
        staged = await self._layers.stage(pieces, parent=below)
        if staged.diff_id != diff_id:
            await self._layers.discard(staged)
            raise InvalidArgument(f"the layer {staged.diff_id} was said to be {diff_id}")
        await self._layers.commit(staged, below, lease=False)

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
        created = await self._containers.create(_request(step), image=_image(step))
        try:
            started(created.id)
            for folder in step.folders:
                await self._own(created.id, folder)
            code = await self._execute(created.id, output, step.loan)
            diff_id = "" if code else await self._changes(created.id, step.chain, change)
        finally:
            await self._surely(self._remove(created.id))
        return Ran(exit_code=code, diff_id=diff_id)

    async def _surely(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something to its end, however often the build is cancelled meanwhile."""
        task = asyncio.ensure_future(work)
        cancelled = False
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                cancelled = True
        task.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _remove(self, id: str) -> None:
        try:
            await self._containers.remove(id, force=True, volumes=True)
        except NotFound:
            pass
        except SampanError as error:
            log.warning("container %s of a build is left: %s", id, error)

    async def _execute(self, id: str, output: Callable[[int, bytes], None], loan: Loan) -> int:
        query = AttachQuery(stream=True, stdout=True, stderr=True)
        attachment = await self._containers.attach(id, query)
        if attachment.socket is None:
            raise InvalidArgument("the step has no output")
        borrowed = Borrowed(self._lender, self._mounter, loan)
        try:
            with attachment.socket as sock:
                # What starts cannot be removed.
                await waited_for(self._containers.start(id, borrowed if loan else None))
                waiter = self._containers.waiter(id)
                async with forwarded(borrowed.agents):
                    await _copy_frames(sock, output)
                    return (await waiter.wait()).status_code
        finally:
            await self._surely(borrowed.leave())

    async def _own(self, id: str, folder: OwnedFolder) -> None:
        """Give a folder of a container, a cache that is mounted there, its owner and mode."""
        above, _, name = folder.path.rstrip("/").rpartition("/")
        entry = Entry(
            os.fsencode(f"{name}/"), DIRECTORY, folder.mode, folder.uid, folder.gid, 0, 0, b"", 0, 0
        )
        content: list[bytes] = []
        writer = TarWriter(content.append)
        writer.header(entry)
        writer.close()

        async def archive() -> AsyncIterator[bytes]:
            yield b"".join(content)

        await self._containers.put_archive(id, above or "/", archive(), ExtractOptions())

    async def _changes(self, id: str, parent: str | None, change: Change | None) -> str:
        if change is None:
            with suppress(Unsupported):
                return await self._captured(id, parent)
            return await self.layer(parent, lambda fd: self._mounter.diff(id, Fd(fd)))
        async with from_pipe(lambda fd: self._mounter.diff(id, Fd(fd))) as pieces:
            await through_pipe(pieces, change.read)
        return await self.layer(parent, change.write)

    async def _captured(self, id: str, parent: str | None) -> str:
        staged = await self._layers.capture(id)
        if staged is None:
            return ""
        await self._layers.commit(staged, Digest(parent) if parent else None, lease=False)
        return staged.diff_id

    async def mounted_caches(self, names: Sequence[str]) -> dict[str, MountedCache]:
        """Return those that are there of the folders that commands of builds share."""
        sizes = await self._volumes.sizes(names)
        return {
            name: MountedCache(size=size, in_use=bool(self._volumes.users(name)))
            for name, size in sizes.items()
        }

    def has_mounted_cache(self, name: str) -> bool:
        """Tell whether such a folder is there."""
        return self._volumes.has(name)

    async def fill_mounted_cache(self, mount: Mount, write: Callable[[int], None]) -> None:
        """Make such a folder, with what is in an archive below the name of the mount's target."""
        host = Platform.host()
        step = RunStep(
            chain=None, architecture=host.architecture, os=host.os, command=["-"], env=[],
            mounts=[mount],
        )  # fmt: skip
        created = await self._containers.create(_request(step), image=_image(step))
        try:
            async with from_pipe(write) as pieces:
                await self._containers.put_archive(created.id, "/", pieces, ExtractOptions())
        finally:
            await self._surely(self._remove(created.id))

    async def remove_mounted_cache(self, name: str) -> bool:
        """Remove such a folder; False if a container has it."""
        try:
            await self._volumes.remove(name, force=True)
        except Conflict:
            return False
        return True

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


def credentials_for(reference: Reference, clients: Mapping[str, Credentials]) -> Credentials | None:
    """Return what X-Registry-Config has for the registry of an image."""
    domain = reference.domain
    names = [_HUB, "index.docker.io", "docker.io"] if domain == "docker.io" else [domain]
    for name in names:
        for key, credentials in clients.items():
            plain = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
            if key == name or plain == name:
                return None if credentials.is_anonymous else credentials
    return None


def _image(step: RunStep) -> Image:
    """Return the layers that a step sees as an image that says nothing else."""
    config = ImageConfig(
        architecture=step.architecture,
        os=step.os,
        variant=step.variant,
        config=RunConfig(),
        rootfs=RootFS(),
    )
    return Image("", config, (Digest(step.chain),) if step.chain else ())


def _request(step: RunStep) -> CreateRequest:
    config: dict[str, Any] = {name: getattr(Config(), name) for name in Config.__struct_fields__}
    config |= {
        "attach_stdout": True,
        "attach_stderr": True,
        "hostname": step.hostname,
        "cmd": step.command,
        "env": step.env,
        "user": step.user,
        "working_dir": step.working_dir,
        "labels": {LABEL: ""},
        "healthcheck": Healthcheck(test=["NONE"]),
    }
    host = _limited(step.limits)
    host.network_mode = step.network or "default"
    host.extra_hosts = step.extra_hosts or None
    host.security_opt = step.security_opt or None
    host.privileged = step.privileged
    if step.devices:
        host.device_requests = [DeviceRequest(driver="cdi", device_ids=step.devices)]
    host.log_config = LogConfig(type="none")
    host.mounts = step.mounts
    return CreateRequest(**config, host_config=host)


def _limited(limits: Limits) -> HostConfig:
    return HostConfig(
        memory=limits.memory,
        memory_swap=limits.memory_swap,
        cpu_shares=limits.cpu_shares,
        cpu_period=limits.cpu_period,
        cpu_quota=limits.cpu_quota,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        cgroup_parent=limits.cgroup_parent,
        shm_size=limits.shm_size,
        ulimits=limits.ulimits or None,
    )


async def _copy_frames(sock: socket.socket, output: Callable[[int, bytes], None]) -> None:
    """Hand on what comes in frames, to the end."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    waiting = bytearray()
    while data := await loop.sock_recv(sock, _READ):
        waiting += data
        while len(waiting) >= _FRAME:
            size = int.from_bytes(waiting[4:_FRAME], "big")
            if len(waiting) < _FRAME + size:
                break
            output(waiting[0], bytes(waiting[_FRAME : _FRAME + size]))
            del waiting[: _FRAME + size]
