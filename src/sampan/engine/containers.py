"""Containers: what Docker's container commands do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from sampan.engine.attachment import Attachment, AttachQuery, LogsQuery, LogStream
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
    WaitResponse,
)
from sampan.spec.docker.stats import StatsResponse
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from sampan.storage.mounter import ExtractOptions, PathStat

Filters = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What `GET /containers/json` asks for."""

    all: bool = False
    limit: int = 0  # above 0: this many, whatever their state
    size: bool = False
    filters: Filters


class Containers:
    """The containers of this engine; `ref` is an id, a unique prefix of one, or a name."""

    async def create(
        self, request: CreateRequest, name: str = "", platform: Platform | None = None
    ) -> CreateResponse:
        """Make a container; it is on disk when this returns."""

    async def start(self, ref: str) -> None:
        """Start a container; NotModified if it runs."""

    async def stop(self, ref: str, signal: str = "", timeout: int | None = None) -> None:
        """Stop a container; NotModified if it does not run. `timeout` -1 waits for ever."""

    async def restart(self, ref: str, signal: str = "", timeout: int | None = None) -> None: ...
    async def kill(self, ref: str, signal: str = "") -> None: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...
    async def rename(self, ref: str, new_name: str) -> None: ...
    async def update(self, ref: str, request: UpdateRequest) -> UpdateResponse: ...
    async def remove(
        self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None: ...

    async def waiter(self, ref: str, condition: str = "") -> asyncio.Future[WaitResponse]:
        """Register a wait (not-running, next-exit, removed) and return what can be awaited.

        When this returns, no end can be missed any more: answer the head of the response, then
        await the future. Cancel it if the client goes away.
        """

    async def attach(self, ref: str, query: AttachQuery) -> Attachment:
        """Connect with the streams of a container, running or not yet. Emits `attach`."""

    async def detached(self, ref: str) -> None:
        """Note that a client left an attachment by its detach keys. Emits `detach`."""

    async def logs(self, ref: str, query: LogsQuery) -> LogStream:
        """Open the log; what can go wrong has gone wrong when this returns."""

    async def resize(self, ref: str, rows: int, columns: int) -> None: ...
    async def inspect(self, ref: str, *, size: bool = False) -> ContainerInspect: ...
    async def list(self, query: ListQuery) -> list[ContainerSummary]: ...
    async def top(self, ref: str, ps_args: str = "") -> TopResponse: ...
    async def stats(
        self, ref: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncIterator[StatsResponse]: ...
    async def changes(self, ref: str) -> list[FilesystemChange] | None: ...
    async def export(self, ref: str) -> AsyncIterator[bytes]: ...
    async def stat_path(self, ref: str, path: str) -> PathStat: ...
    async def get_archive(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]: ...
    async def put_archive(
        self, ref: str, path: str, content: AsyncIterable[bytes], options: ExtractOptions
    ) -> None: ...
    async def commit(
        self,
        ref: str,
        reference: Reference | None = None,
        *,
        comment: str = "",
        author: str = "",
        pause: bool = True,
        changes: Sequence[str] = (),
        config: Config | None = None,
    ) -> str:
        """Make an image of a container; return its id."""

    async def prune(self, filters: Filters) -> ContainersPruneReport: ...
