"""A worker for builds that keeps layers in a dictionary, and runs no real program."""

from __future__ import annotations

import asyncio
import io
import os
import sqlite3
import tarfile
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import msgspec

from sampan.build.builder import Builder
from sampan.build.worker import Clients, Nobody
from sampan.engine.images.feeding import from_pipe
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import (
    BaseImage,
    BuildOptions,
    FoundDevice,
    MountedCache,
    Ran,
    Repository,
    RunStep,
)
from sampan.spec.digest import chain_id, chain_ids, digest_of
from sampan.spec.docker.config import Mount
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.image import ImageConfig, RootFS, RunConfig
from sampan.spec.platform import Platform
from sampan.storage.mounter import PathStat
from tests import tarballs

T = TypeVar("T")
Members = list[tuple[tarfile.TarInfo, bytes]]


class FakeDatabase:
    """A database in memory."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self.connection:
            yield self.connection


class FakeCaches:
    """The folders that commands share."""

    def __init__(self) -> None:
        self.sizes: dict[str, MountedCache] = {}
        self.filled: dict[str, bytes] = {}  # archives that they began with

    async def found(self, names: Sequence[str]) -> dict[str, MountedCache]:
        return {name: self.sizes[name] for name in names if name in self.sizes}

    def has(self, name: str) -> bool:
        return name in self.sizes

    async def fill(self, mount: Mount, write: Callable[[int], None]) -> None:
        assert mount.source not in self.sizes
        async with from_pipe(write) as pieces:
            self.filled[mount.source] = b"".join([piece async for piece in pieces])
        self.sizes[mount.source] = MountedCache(size=0, in_use=False)

    async def remove(self, name: str) -> bool:
        return self.sizes.pop(name, None) is not None


class FakeWorker:
    """Images, layers and commands of tests.

    A command is one shell line of `write PATH TEXT`, `print TEXT`, `fail CODE` or `wait NAME`.
    """

    def __init__(self) -> None:
        self.layers: dict[str, Members] = {}  # chain id → members of that layer
        self.parents: dict[str, str | None] = {}
        self.images: dict[str, BaseImage] = {}
        self.tags: dict[str, str] = {}
        self.kept: Counter[str] = Counter()
        self.steps: list[RunStep] = []
        self.made = 0  # layers
        self.pages: dict[str, bytes] = {}
        self.repositories: dict[Repository, bytes] = {}
        self.events: dict[str, asyncio.Event] = {}
        self.running = self.reads = 0
        self.archives: dict[str, bytes] = {}  # by diff id
        self.configs: dict[str, bytes] = {}  # of images that were built
        self.mounted_caches = FakeCaches()
        self.mounted: list[list[str]] = []  # layers of temporary images

    def have(self, name: str, *files: bytes, **config: Any) -> str:
        """Have an image with one layer."""
        archive = tarballs.archive(*files)
        diff_id = self._store(None, archive)
        document = ImageConfig(
            architecture="amd64",
            os="linux",
            created="2020-01-01T00:00:00Z",
            config=RunConfig(**config),
            rootfs=RootFS(diff_ids=[diff_id]),
        )
        image = digest_of(msgspec.json.encode(document))
        self.images[name] = self.images[image] = BaseImage(id=image, config=document)
        return image

    def _store(self, parent: str | None, archive: bytes) -> str:
        diff_id = digest_of(archive)
        self.archives[diff_id] = archive
        chain = digest_of(f"{parent} {diff_id}".encode()) if parent else diff_id
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            members: Members = []
            for info in opened:
                file = opened.extractfile(info) if info.isreg() else None
                members.append((info, file.read() if file else b""))
        self.layers[chain], self.parents[chain] = members, parent
        return diff_id

    def files(self, chain: str | None) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """Return what a state has, by path."""
        chains: list[str] = []
        while chain is not None:
            chains.append(chain)
            chain = self.parents[chain]
        found = {}
        for one in reversed(chains):
            for info, content in self.layers[one]:
                found["/" + info.name.strip("/")] = info, content
        return found

    # --- the contract ----------------------------------------------------------------------

    @asynccontextmanager
    async def intake(self) -> AsyncIterator[None]:
        yield

    async def base(
        self,
        name: str,
        platform: Platform | None,
        *,
        pull: bool,
        clients: object,
        say: Callable[[ProgressMessage], None],
    ) -> BaseImage:
        if pull:
            say(ProgressMessage(status=f"Pulling from {name}"))
        if name not in self.images:
            raise NotFound(f"No such image: {name}")
        return self.images[name]

    async def load(self, archive: AsyncIterable[bytes]) -> BaseImage:
        content = b"".join([chunk async for chunk in archive])
        self.have("loaded", tarballs.file("loaded", content))
        base = self.images.pop("loaded")
        self.keep_layers(base.config.diff_ids)
        return base

    async def image(self, name: str) -> BaseImage:
        if name not in self.images:
            raise NotFound(f"No such image: {name}")
        return self.images[name]

    def has_layer(self, chain: str) -> bool:
        return chain in self.layers

    def layer_size(self, chain: str) -> int:
        return sum(len(content) for _, content in self.layers.get(chain, []))

    def layers_of_images(self) -> set[str]:
        return {chain for it in self.images.values() for chain in chain_ids(it.config.diff_ids)}

    def space(self) -> tuple[int, int]:
        return 1 << 40, 1 << 40

    def keep_layers(self, chains: Iterable[str]) -> None:
        self.kept.update(chains)

    def release_layers(self, chains: Iterable[str]) -> None:
        self.kept.subtract(chains)

    async def collect(self) -> None:
        for chain in [chain for chain in self.layers if self.kept[chain] <= 0]:
            del self.layers[chain]

    async def layer(self, parent: str | None, write: Callable[[int], None]) -> str:
        self.made += 1
        with tempfile.TemporaryFile() as file:
            await self.call(lambda: write(file.fileno()))
            file.seek(0)
            return self._store(parent, file.read())

    async def bring(self, parent: str | None, diff_id: str, pieces: AsyncIterator[bytes]) -> None:
        archive = b"".join([piece async for piece in pieces])
        if self._store(parent, archive) != diff_id:
            raise InvalidArgument("it is another layer")

    async def config(self, image: str) -> bytes:
        return self.configs.get(image) or msgspec.json.encode(self.images[image].config)

    async def add_image(self, config: bytes, *, awaits_name: bool) -> str:
        image = digest_of(config)
        self.configs[image] = config
        self.images[image] = BaseImage(
            id=image, config=msgspec.json.decode(config, type=ImageConfig)
        )
        return image

    async def tag(self, image: str, name: str) -> str:
        self.tags[name] = image
        self.images[name] = self.images[image]
        return name

    async def stat(self, chain: str | None, path: str) -> PathStat | None:
        files = self.files(chain)
        if path in files:
            info, _ = files[path]
            mode = 1 << 31 if info.isdir() else 1 << 27 if info.issym() else 0
            target = os.path.join(os.path.dirname(path), info.linkname) if info.issym() else ""
            return PathStat(name=path, size=0, mode=mode, mtime="", link_target=target)
        if any(name.startswith(path.rstrip("/") + "/") for name in files):
            return PathStat(name=path, size=0, mode=1 << 31, mtime="")
        return None

    async def pack(self, chain: str | None, path: str, read: Callable[[int], T]) -> T:
        buffer = io.BytesIO()
        start = os.path.dirname(path.rstrip("/")).rstrip("/") + "/" if path else "/"
        with tarfile.open(fileobj=buffer, mode="w") as packed:
            for name, (info, content) in sorted(self.files(chain).items()):
                if not path or name == path or name.startswith(path + "/"):
                    info.name = name.removeprefix(start)
                    packed.addfile(info, io.BytesIO(content))
        return await self._read(buffer.getvalue(), read)

    async def download(self, url: str, read: Callable[[int], T]) -> T:
        if url not in self.pages:
            raise NotFound(f"failed to GET {url} with status 404 Not Found")
        return await self._read(self.pages[url], read)

    async def repository(self, repository: Repository, read: Callable[[int], T]) -> T:
        return await self._read(self.repositories[repository], read)

    async def _read(self, content: bytes, read: Callable[[int], T]) -> T:
        self.reads += 1
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            return await self.call(lambda: read(file.fileno()))

    async def unpacked(self, diff_id: str, read: Callable[[int], T]) -> T:
        return await self._read(self.archives[diff_id], read)

    @asynccontextmanager
    async def temporary_image(self, diff_ids: Sequence[str]) -> AsyncIterator[str]:
        self.mounted.append(list(diff_ids))
        yield f"image-{len(self.mounted)}"

    async def devices(self, name: str) -> Sequence[FoundDevice]:
        return [FoundDevice(name=name)] if name.startswith("example.com/") else []

    async def run(
        self,
        step: RunStep,
        started: Callable[[str], None],
        output: Callable[[int, bytes], None],
        change: Any = None,
    ) -> Ran:
        self.steps.append(step)
        started("c" * 64)
        self.running += 1
        try:
            verb, _, rest = step.command[-1].partition(" ")
            if verb == "fail":
                output(2, b"failing\n")
                return Ran(exit_code=int(rest))
            if verb == "wait":
                await self.events[rest].wait()
            if verb == "signal":
                self.events[rest].set()
            if verb != "write":
                output(1, f"{rest}\n".encode())
                return Ran(exit_code=0)
        finally:
            self.running -= 1
        path, _, text = rest.partition(" ")
        members = [tarballs.file(path.lstrip("/"), text.encode())]
        stubs = [tarballs.file(mount.target.lstrip("/")) for mount in step.mounts]
        archive = tarballs.archive(*members, *stubs)
        if change:
            await self._read(archive, change.read)
            return Ran(exit_code=0, diff_id=await self.layer(step.chain, change.write))
        return Ran(exit_code=0, diff_id=self._store(step.chain, archive))

    async def undivided(self, work: Any) -> Any:
        return await work

    async def call(self, func: Callable[[], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def work() -> None:
            try:
                result = func()
            except BaseException as error:
                loop.call_soon_threadsafe(future.set_exception, error)
            else:
                loop.call_soon_threadsafe(future.set_result, result)

        threading.Thread(target=work).start()
        return await future

    async def feed(self, chunks: AsyncIterable[bytes], read: Callable[[int], T]) -> T:
        return await self._read(b"".join([chunk async for chunk in chunks]), read)

    @asynccontextmanager
    async def written(self, write: Callable[[int], None]) -> AsyncIterator[AsyncIterator[bytes]]:
        async with from_pipe(write) as pieces:
            yield pieces

    def scratch(self) -> int:
        return os.memfd_create("spool")


class Yard:
    """A builder on a fake worker, with short words."""

    def __init__(self) -> None:
        self.worker, self.database = FakeWorker(), FakeDatabase()
        self.builder = Builder(self.worker, self.database)
        self.client: Clients = Nobody()

    async def build(self, text: str, *files: bytes, **options: Any) -> list[ProgressMessage]:
        """Build; return all messages."""
        archive = tarballs.archive(tarballs.file("Dockerfile", text.encode()), *files)
        context = await self.builder.incoming.receive(_stream(archive))
        wanted = BuildOptions(**{"tags": ["made"], **options})
        return [message async for message in self.builder.build(wanted, context, self.client)]

    def built(self, text: str, *files: bytes, **options: Any) -> str:
        """Build; return what is shown."""

        async def main() -> str:
            messages = await self.build(text, *files, **options)
            return "".join(message.stream or message.error for message in messages)

        return asyncio.run(main())

    @property
    def made(self) -> ImageConfig:
        """The configuration of the image that was built last."""
        return self.worker.images["made"].config

    def files(self) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """Return the files of that image."""
        return self.worker.files(chain_id(self.made.diff_ids))

    def content(self, path: str) -> bytes:
        """Return one of them."""
        return self.files()[path][1]


async def _stream(content: bytes) -> AsyncIterator[bytes]:
    yield content
