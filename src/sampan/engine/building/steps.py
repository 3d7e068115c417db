"""Steps of builds, each in a container of its own.

Source: moby daemon/builder/dockerfile/containerbackend.go.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol

from sampan.engine.agents import forwarded
from sampan.engine.building.layers import BuiltLayers
from sampan.engine.building.requests import LABEL, image_of, request_of
from sampan.engine.containers.borrowing import Borrowed
from sampan.engine.containers.containers import Containers
from sampan.engine.containers.queries import AttachQuery, ListQuery
from sampan.engine.images.feeding import from_pipe, through_pipe
from sampan.engine.undisturbed import waited_for
from sampan.errors import InvalidArgument, NotFound, SampanError, Unsupported
from sampan.rpc import Fd
from sampan.spec.build import OwnedFolder, Ran, RunStep
from sampan.spec.loan import Loan
from sampan.storage.archives.tar_fields import DIRECTORY, Entry
from sampan.storage.archives.tar_writer import TarWriter
from sampan.storage.lender import Lender
from sampan.storage.mounter import ExtractOptions, Mounter

log = logging.getLogger(__name__)
_FRAME: Final = 8  # bytes of the header of a frame
_READ: Final = 64 << 10


class Change(Protocol):
    """Something that changes an archive."""

    def read(self, fd: int) -> None:
        """Take it from a pipe."""

    def write(self, into: int) -> None:
        """Write it to a pipe."""


class Steps:
    """Runs steps; their containers are gone afterwards."""

    def __init__(
        self, containers: Containers, layers: BuiltLayers, mounter: Mounter, lender: Lender
    ) -> None:
        self._containers, self._layers = containers, layers
        self._mounter, self._lender = mounter, lender

    async def clean(self) -> None:
        """Remove the containers of steps that a killed engine has left."""
        query = ListQuery(all=True, filters={"label": [LABEL]})
        for container in await self._containers.list(query):
            with suppress(SampanError):
                await self._containers.remove(container.id, force=True, volumes=True)
                log.info("container %s of an interrupted build is removed", container.id)

    async def run(
        self,
        step: RunStep,
        started: Callable[[str], None],
        output: Callable[[int, bytes], None],
        change: Change | None = None,
    ) -> Ran:
        """Run a step in a container of its own, which is gone afterwards."""
        created = await self._containers.create(request_of(step), image=image_of(step))
        try:
            started(created.id)
            for folder in step.folders:
                await self._own(created.id, folder)
            code = await self._execute(created.id, output, step.loan)
            diff_id = "" if code else await self._changes(created.id, step.chain, change)
        finally:
            await self._surely(self._remove(created.id))
        return Ran(exit_code=code, diff_id=diff_id)

    async def put(self, step: RunStep, write: Callable[[int], None]) -> None:
        """Put an archive into the container of a step, which is never started."""
        created = await self._containers.create(request_of(step), image=image_of(step))
        try:
            async with from_pipe(write) as pieces:
                await self._containers.put_archive(created.id, "/", pieces, ExtractOptions())
        finally:
            await self._surely(self._remove(created.id))

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
                return await self._layers.capture(id, parent)
            return await self._layers.make(parent, lambda fd: self._mounter.diff(id, Fd(fd)))
        async with from_pipe(lambda fd: self._mounter.diff(id, Fd(fd))) as pieces:
            await through_pipe(pieces, change.read)
        return await self._layers.make(parent, change.write)


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
        await asyncio.sleep(0)  # a step that prints without a pause keeps nobody else waiting
