"""Files of containers: copies in and out, export, what has changed.

Source: moby daemon/archive.go, archive_unix.go, export.go, changes.go.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import posixpath
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import msgspec

from sampan.engine.blocking import blocking, in_own_thread
from sampan.engine.containers.container import Container
from sampan.engine.containers.notices import Notices
from sampan.engine.oci.mount_spec import make_sources
from sampan.engine.volumes.container_mounts import ContainerMounts, Ready
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.rpc import Fd
from sampan.runtime.spawner import Bind, Spawner
from sampan.spec.docker.containers import FilesystemChange
from sampan.storage.mounter import ExtractOptions, Mounter, PathStat

CHUNK: Final = 256 << 10
PIPE_BYTES: Final = 1 << 20


class Archives:
    """Moves files between containers and clients; the storage helper touches them."""

    def __init__(
        self, mounter: Mounter, spawner: Spawner, notices: Notices, mounts: ContainerMounts
    ) -> None:
        self._mounter, self._spawner, self._notices = mounter, spawner, notices
        self._mounts = mounts
        self._copies = itertools.count(1)

    async def changes(self, container: Container) -> list[FilesystemChange] | None:
        """Return what the container changed in its file system; None for nothing."""
        _check(container)
        found = await in_own_thread(self._mounter.changes, container.id)
        return [FilesystemChange(path=each.path, kind=each.kind) for each in found] or None

    async def stat(self, container: Container, path: str) -> PathStat:
        """Return what a path is; NotFound if it is nothing."""
        _check(container)
        async with self._root(container) as root:
            try:
                return await blocking(self._mounter.stat, container.id, path, *root)
            except NotFound:
                raise _missing(container, path) from None

    async def get(self, container: Container, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Return a path as a tar, with what it is. Emits `archive-path`."""
        async with AsyncExitStack() as undo:
            stat = await self.stat(container, path)
            root = await undo.enter_async_context(self._root(container))

            async def pack(into: Fd) -> None:
                await in_own_thread(self._mounter.pack, container.id, path, into, *root)

            blocks = await _started(pack, undo.pop_all())
        self._notices.container(container, "archive-path")
        return stat, blocks

    async def export(self, container: Container) -> AsyncIterator[bytes]:
        """Return the whole file system, mounts left out, as a tar. Emits `export`."""
        _check(container)

        async def pack(into: Fd) -> None:
            await in_own_thread(self._mounter.pack, container.id, "", into)

        blocks = await _started(pack, AsyncExitStack())
        self._notices.container(container, "export")
        return blocks

    async def put(
        self,
        container: Container,
        path: str,
        archive: AsyncIterable[bytes],
        options: ExtractOptions,
    ) -> None:
        """Unpack a tar into the folder `path`. Emits `extract-to-dir`."""
        _check(container)
        if container.host_config.readonly_rootfs and not _in_mount(container, path):
            raise InvalidArgument("container rootfs is marked read-only")
        if options.copy_uid_gid and not options.user:
            options = msgspec.structs.replace(options, user=container.config.user)
        async with self._root(container, writes=True) as root:

            async def extract(archive: Fd) -> None:
                await in_own_thread(
                    self._mounter.extract, container.id, path, archive, options, *root
                )

            try:
                await _fed(extract, archive)
            except NotFound:
                raise _missing(container, path) from None
        self._notices.container(container, "extract-to-dir")

    @asynccontextmanager
    async def _root(
        self, container: Container, *, writes: bool = False
    ) -> AsyncIterator[tuple[Fd | None, Fd | None]]:
        """Hold the root of a container with its mounts; None if it rests and has none.

        The second descriptor is that of its user namespace, if it runs in one: files have other
        owners there. Those of a container that rests are as on disk.

        One that rests, and is mounted to be written, cannot start before it is let go: two such
        mounts of one snapshot would destroy each other's work.
        """
        async with AsyncExitStack() as held:
            root, user = await self._root_of_running(container, held)
            if root is None and (writes or container.record.mounts):
                await held.enter_async_context(container.lock)
                _check(container)
                root, user = await self._root_of_running(container, held)
                if root is None and (root := await self._assembled(container, held)):
                    held.callback(root.close)
            yield root, user

    async def _root_of_running(
        self, container: Container, held: AsyncExitStack
    ) -> tuple[Fd | None, Fd | None]:
        if not container.running:
            return None, None
        user = None
        with suppress(Conflict, NotFound):  # it has just ended
            if container.record.id_maps:
                user = await blocking(self._spawner.user, container.id)
                held.callback(user.close)
            root = await blocking(self._spawner.root, container.id)
            held.callback(root.close)
            return root, user
        return None, None

    async def _assembled(self, container: Container, held: AsyncExitStack) -> Fd | None:
        """Return a mount of a container that rests, with its mounts; None if it has none."""
        record = container.record
        if all(mount.type == "tmpfs" for mount in record.mounts):
            return None
        user = f"copy-{next(self._copies)}-{record.id}"
        ready = await self._mounts.mount(record, user)
        held.push_async_callback(self._mounts.unmount, record, user)
        try:
            binds, sources = _binds(container, ready), make_sources(record)
            with await blocking(self._mounter.mount, container.id) as bare:
                return await blocking(self._spawner.assemble, bare, binds, sources)
        finally:
            ready.close()


def _check(container: Container) -> None:
    if container.removing or container.record.dead:
        raise Conflict(f"container {container.id} is marked for removal")


def _missing(container: Container, path: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container {container.name}")


def _binds(container: Container, ready: Ready) -> list[Bind]:
    more = {source.destination: source for source in ready.sources}
    binds = []
    for mount in container.record.mounts:
        if not mount.source:
            continue
        bind = Bind(
            source=mount.source,
            destination=mount.destination,
            read_only=not mount.rw,
            copy_up=mount.destination in container.record.late_fills,
        )
        if source := more.get(mount.destination):
            bind.subpath, bind.tree, bind.strict = source.subpath, source.tree, source.strict
        binds.append(bind)
    return binds


def _in_mount(container: Container, path: str) -> bool:
    """Tell whether a path is in a mount that can be written."""
    clean = posixpath.normpath("/" + path.lstrip("/"))  # two slashes would stay
    return any(
        mount.rw and (clean + "/").startswith(mount.destination.rstrip("/") + "/")
        for mount in container.record.mounts
    )


# --- pipes to and from the helper ---------------------------------------------------------------


async def _started(
    pack: Callable[[Fd], Awaitable[None]], resources: AsyncExitStack
) -> AsyncIterator[bytes]:
    """Start a packer on a pipe, and return what it writes once there is some.

    An error before the first byte is raised here. `resources` are closed with the iterator.
    """
    packed = _Packed(pack, resources)
    try:
        await packed.wait_for_first()
    except BaseException:
        await packed.aclose()
        raise
    return packed


class _Packed(AsyncIterator[bytes]):
    """What a packer writes into its pipe, block by block."""

    def __init__(self, pack: Callable[[Fd], Awaitable[None]], resources: AsyncExitStack) -> None:
        reading, writing = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(reading, False)
        self._reading, self._resources = Fd(reading), resources
        self._first = b""
        self._work = asyncio.ensure_future(_lend(pack, writing))

    async def wait_for_first(self) -> None:
        """Wait for the first block, or raise why there is none."""
        self._first = await self._read()

    async def __anext__(self) -> bytes:
        block, self._first = self._first, b""
        if not block:
            block = await self._read()
        if not block:
            await self.aclose()
            raise StopAsyncIteration
        return block

    async def _read(self) -> bytes:
        """Return the next block; at the end, raise what went wrong or return nothing."""
        loop = asyncio.get_running_loop()
        while self._reading.number >= 0:
            try:
                block = os.read(self._reading.number, CHUNK)
            except BlockingIOError:
                await _ready(loop.add_reader, loop.remove_reader, self._reading.number)
                continue
            if not block:
                await self._work
            return block
        return b""

    async def aclose(self) -> None:
        """End the packer, if it still works; a second call does nothing."""
        self._reading.close()  # it gets EPIPE
        await asyncio.gather(self._work, return_exceptions=True)
        await self._resources.aclose()

    def __del__(self) -> None:
        self._reading.close()


async def _lend(work: Callable[[Fd], Awaitable[None]], descriptor: int) -> None:
    with Fd(descriptor) as lent:
        await work(lent)


async def _fed(extract: Callable[[Fd], Awaitable[None]], content: AsyncIterable[bytes]) -> None:
    """Carry `content` into the pipe from which `extract` reads; raise what went wrong first."""
    reading, writing = os.pipe()
    with suppress(OSError):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(writing, False)
    work = asyncio.ensure_future(_lend(extract, reading))
    feeding = asyncio.ensure_future(_feed(writing, content))
    try:
        await asyncio.wait((work, feeding), return_when=asyncio.FIRST_COMPLETED)
        if feeding.done() and feeding.exception():
            await asyncio.gather(work, return_exceptions=True)
            feeding.result()
        await work
        await feeding
    finally:
        feeding.cancel()
        await asyncio.gather(work, feeding, return_exceptions=True)


async def _feed(writing: int, content: AsyncIterable[bytes]) -> None:
    loop = asyncio.get_running_loop()
    with Fd(writing) as pipe:
        async for block in content:
            rest = memoryview(block)
            while rest:
                try:
                    rest = rest[os.write(pipe.number, rest) :]
                except BlockingIOError:
                    await _ready(loop.add_writer, loop.remove_writer, pipe.number)
                except BrokenPipeError:
                    break  # what follows the end of the archive is read, and dropped


async def _ready(
    add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], bool], descriptor: int
) -> None:
    """Wait until a descriptor can be read or written."""
    ready = asyncio.get_running_loop().create_future()

    def notice() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, notice)
    try:
        await ready
    finally:
        remove(descriptor)
