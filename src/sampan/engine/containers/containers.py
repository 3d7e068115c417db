"""Containers, as the API and the library use them: one method for each of Docker's verbs.

The parts: `lookup` finds them, `creation` makes, `launching` starts, `lifecycle` runs, `removal`
removes them, `inspection` shows them, `attaching` and `logs` carry their streams, `archive` their
files.
`ref` is always a name, an id or a prefix of an id; NotFound says "No such container: ref".
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from sampan.engine.containers.archive import Archives
from sampan.engine.containers.attaching import Attaching
from sampan.engine.containers.borrowing import Borrowed
from sampan.engine.containers.creation import Creation
from sampan.engine.containers.inspection import Inspection
from sampan.engine.containers.lifecycle import Lifecycle
from sampan.engine.containers.logs import Logs
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.queries import Attachment, AttachQuery, ListQuery, LogsQuery
from sampan.engine.containers.removal import Removal
from sampan.engine.containers.stats import Stats
from sampan.engine.containers.top import top
from sampan.engine.containers.updating import Updating
from sampan.engine.containers.waiting import Waiter, wait_for
from sampan.engine.images.model import Image
from sampan.errors import NotFound
from sampan.spec.docker.config import Config
from sampan.spec.docker.containers import (
    ContainerInspect,
    ContainersPruneReport,
    ContainerSummary,
    CreateRequest,
    CreateResponse,
    FilesystemChange,
    TopResponse,
    UpdateRequest,
    UpdateResponse,
)
from sampan.spec.docker.stats import StatsResponse
from sampan.storage.mounter import ExtractOptions, PathStat

__all__ = ["AttachQuery", "Attachment", "Containers", "ListQuery", "LogsQuery", "Waiter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """The containers of this engine."""

    table: Table
    creation: Creation
    lifecycle: Lifecycle
    removal: Removal
    updating: Updating
    inspection: Inspection
    attaching: Attaching
    logging: Logs
    archives: Archives
    statistics: Stats

    # --- life ----------------------------------------------------------------------------------

    async def create(
        self,
        request: CreateRequest,
        name: str = "",
        platform: str = "",
        image: Image | None = None,
    ) -> CreateResponse:
        """Make a container; NotFound "No such image: …", Conflict for a taken name.

        `image` is one that is in no store; then the request's is only a name.
        """
        return await self.creation.create(request, name, platform, image)

    async def start(self, ref: str, borrowed: Borrowed | None = None) -> None:
        """Start a container, this once with what it has on loan; NotModified if it runs."""
        await self.lifecycle.start(self.table.find(ref), borrowed)

    async def stop(self, ref: str, signal: str = "", timeout: int | None = None) -> None:  # noqa: ASYNC109 - Docker's, in seconds
        """Ask the container to end, and kill it after `timeout` seconds (-1: never)."""
        await self.lifecycle.stop(self.table.find(ref), signal, timeout)

    async def restart(self, ref: str, signal: str = "", timeout: int | None = None) -> None:  # noqa: ASYNC109 - Docker's, in seconds
        """Stop the container if it runs, and start it."""
        await self.lifecycle.restart(self.table.find(ref), signal, timeout)

    async def kill(self, ref: str, signal: str = "") -> None:
        """Send a signal (default SIGKILL); Conflict if the container does not run."""
        try:
            container = self.table.find(ref)
        except NotFound as error:
            raise NotFound(f"cannot kill container: {ref}: {error}") from error
        await self.lifecycle.kill(container, signal)

    async def pause(self, ref: str) -> None:
        """Freeze all processes of the container."""
        await self.lifecycle.pause(self.table.find(ref))

    async def unpause(self, ref: str) -> None:
        """Let them go on."""
        await self.lifecycle.unpause(self.table.find(ref))

    def waiter(self, ref: str, condition: str = "") -> Waiter:
        """Register for "not-running", "next-exit" or "removed"; await the result's `wait()`.

        The registration counts from now, so answer the client's headers after this call.
        """
        return wait_for(self.table.find(ref), condition)

    async def remove(
        self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """Remove a container; Conflict while it runs, unless by force. `link`: only that name."""
        if link:
            await self.removal.unlink(ref)
        else:
            await self.removal.remove(self.table.find(ref), force=force, volumes=volumes)

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> ContainersPruneReport:
        """Remove all containers that do not run."""
        return await self.removal.prune(filters)

    async def rename(self, ref: str, new_name: str) -> None:
        """Give a container another name."""
        await self.updating.rename(self.table.find(ref), new_name)

    async def update(self, ref: str, request: UpdateRequest) -> UpdateResponse:
        """Change limits and restart policy, also while it runs."""
        return await self.updating.update(self.table.find(ref), request)

    # --- what is known -------------------------------------------------------------------------

    async def inspect(self, ref: str, *, size: bool = False) -> ContainerInspect:
        """Return everything about one container."""
        return await self.inspection.inspect(self.table.find(ref), size=size)

    async def list(self, query: ListQuery) -> list[ContainerSummary]:
        """Return what `docker ps` shows, newest first."""
        return await self.inspection.list(query)

    async def top(self, ref: str, arguments: str = "") -> TopResponse:
        """Return the processes of a container as `ps` on the host shows them."""
        return await top(self.table.find(ref), arguments)

    def stats(
        self, ref: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncIterator[StatsResponse]:
        """Yield statistics: once, or every second while the container exists."""
        return self.statistics.samples(self.table.find(ref), stream=stream, one_shot=one_shot)

    async def changes(self, ref: str) -> Sequence[FilesystemChange] | None:
        """Return what the container changed in its file system, None for nothing."""
        return await self.archives.changes(self.table.find(ref))

    # --- streams -------------------------------------------------------------------------------

    async def attach(self, ref: str, query: AttachQuery) -> Attachment:
        """Connect to the streams of a container, before or while it runs."""
        return await self.attaching.attach(self.table.find(ref), query)

    async def resize(self, ref: str, *, rows: int, columns: int) -> None:
        """Set the size of the terminal."""
        await self.attaching.resize(self.table.find(ref), rows, columns)

    def detached(self, ref: str) -> None:
        """Note that a client left an attachment by its detach keys. Emits `detach`."""
        self.attaching.detached(self.table.find(ref))

    def logs(self, ref: str, query: LogsQuery) -> tuple[bool, AsyncIterator[bytes]]:
        """Return whether the container has a terminal, and its log in blocks.

        Blocks are Docker's frames, or raw for a terminal. Raises before the first block:
        InvalidArgument if no stream is asked for, Unsupported if the driver keeps nothing.
        """
        return self.logging.read(self.table.find(ref), query)

    # --- files ---------------------------------------------------------------------------------

    async def stat_path(self, ref: str, path: str) -> PathStat:
        """Return what a path in the container is."""
        return await self.archives.stat(self.table.find(ref), path)

    async def get_archive(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Return a path of the container as a tar, with what it is."""
        return await self.archives.get(self.table.find(ref), path)

    async def put_archive(
        self, ref: str, path: str, archive: AsyncIterable[bytes], options: ExtractOptions
    ) -> None:
        """Unpack a tar into a folder of the container."""
        await self.archives.put(self.table.find(ref), path, archive, options)

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """Return the container's whole file system as a tar."""
        return await self.archives.export(self.table.find(ref))

    async def commit(
        self,
        ref: str,
        *,
        repo: str = "",
        tag: str = "",
        comment: str = "",
        author: str = "",
        pause: bool = True,
        changes: Sequence[str] = (),
        config: Config | None = None,
    ) -> str:
        """Make an image of the container and return its id."""
        return await self.updating.commit(
            self.table.find(ref),
            repo=repo,
            tag=tag,
            comment=comment,
            author=author,
            pause=pause,
            changes=changes,
            config=config,
        )
