"""The pull-through cache of a registry: its upstreams, and what goes on beside requests.

async with Proxy(registry, threads, Places([upstream])) as proxy:
    cached = proxy.cached(proxy.places.of("library/alpine"), lambda name: True)
    await cached.refresh("3.20")
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from typing import Self

from sampan.distribution.registries import Registries
from sampan.registry.drivers.filesystem import FilesystemDriver
from sampan.registry.events import Event
from sampan.registry.proxy.cached import CachedRepository
from sampan.registry.proxy.expiry import HOUR, expire
from sampan.registry.proxy.figures import Figures
from sampan.registry.proxy.mirrors import Mirror
from sampan.registry.proxy.placed import Shared
from sampan.registry.proxy.upstreams import Place, Places
from sampan.registry.registry import Registry
from sampan.registry.upkeep.inventory import upload_folders

log = logging.getLogger(__name__)
DAY = 24 * HOUR


class Proxy:
    """Owns the connections to upstreams and all that is under way."""

    def __init__(
        self,
        registry: Registry,
        threads: Executor,
        places: Places,
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        """`tell` is told, in a thread, of manifests and tags that are new here."""
        self.places = places
        self._shared = Shared(registry, threads, places)
        if tell:
            self._shared.tell = tell
        self._stack = AsyncExitStack()

    @property
    def figures(self) -> Figures:
        """What was done so far."""
        return self._shared.figures

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for upstream in self.places.upstreams:
                client = await stack.enter_async_context(Registries(upstream.config()))
                self._shared.clients[upstream.name] = client
            stack.push_async_callback(self._shared.tasks.end)
            await self._shared.run(self._sweep)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _sweep(self) -> None:
        """Throw away what transfers have left that a kill has ended.

        Who is not alone on a storage leaves what may be under way elsewhere.
        """
        registry = self._shared.registry
        is_alone = isinstance(registry.driver, FilesystemDriver) and registry.metadata.alone
        before = math.inf if is_alone else time.time() - DAY
        for name in list(upload_folders(registry.driver)):
            if self.places.of(name) is not None:
                registry.uploads.purge(name, before)

    def place(self, repository: str, query: Mapping[str, str]) -> Place | None:
        """Return where a repository of a request comes from. Raises NAME_UNKNOWN."""
        return self.places.of(repository, query.get("ns", ""))

    def cached(self, place: Place, may_read: Callable[[str], bool]) -> CachedRepository:
        """Return the repository at a place, for a client who may read some others."""
        return CachedRepository(self._shared, place, may_read)

    async def work(self) -> None:
        """Forget what nobody pulls, and mirror what is to be here, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forget())
            for upstream in self.places.upstreams:
                for mirroring in upstream.mirroring:
                    group.create_task(Mirror(self, upstream, mirroring).run())

    def client(self, name: str) -> Registries:
        """Return the client of an upstream."""
        return self._shared.clients[name]

    async def _forget(self) -> None:
        lives = [upstream.ttl for upstream in self.places.upstreams if upstream.ttl]
        eviction = self._shared.eviction
        if not lives and not eviction.limits:
            return
        pause = min([HOUR, *(max(life / 24, 1.0) for life in lives)])
        while True:
            try:
                await self._shared.run(eviction.enforce)
                await asyncio.sleep(pause)
                await self._shared.run(expire, self._shared.registry, self.places)
            except (OSError, sqlite3.Error) as error:
                log.error("what is cached is not forgotten: %s", error)
                await asyncio.sleep(pause)
