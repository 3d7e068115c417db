"""A repository of an upstream, as one client may have it, and what all of them have in common."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.registry.content.fullness import UnlessAway
from sampan.registry.errors import RegistryError
from sampan.registry.events import Event
from sampan.registry.proxy.eviction import Eviction
from sampan.registry.proxy.failures import failure
from sampan.registry.proxy.figures import Figures
from sampan.registry.proxy.tasks import Tasks
from sampan.registry.proxy.transfers import AT_ONCE, Transfer
from sampan.registry.proxy.upstreams import Place, Places
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest

T = TypeVar("T")
PATIENCE = 10.0  # seconds for an upstream to answer, where something is here that can be served
SLOW_SECONDS = 2.0  # a storage that takes longer to fail ...
AWAY_SECONDS = 10.0  # ... is not asked for so long, so that not everybody waits for it


@dataclass
class Shared:
    """What all cached repositories have in common."""

    registry: Registry
    threads: Executor
    places: Places
    clients: dict[str, Registries] = field(default_factory=dict)  # by the upstream's name
    figures: Figures = field(default_factory=Figures)
    tasks: Tasks = field(default_factory=Tasks)
    transfers: dict[Digest, list[Transfer]] = field(default_factory=dict)
    down: dict[str, float] = field(default_factory=dict)
    away: float = 0.0  # until then our own storage is not asked
    eviction: Eviction = field(init=False)
    tell: Callable[[Event], None] = lambda _: None  # of what changes here; it blocks
    slots: dict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
    )  # by the upstream's name: a slow one keeps only its own clients waiting

    def __post_init__(self) -> None:
        self.eviction = Eviction(self.registry, self.places, self.figures)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that blocks, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, function, *arguments)

    @property
    def is_away(self) -> bool:
        """Our own storage failed a moment ago, and took long to."""
        return time.monotonic() < self.away

    async def look(self, function: Callable[..., T | None], *arguments: Any) -> T | None:
        """Look for something here, or keep it; None where our own storage fails.

        Then it is as good as absent: the upstream has it too.
        """
        begun = time.monotonic()
        if self.is_away:
            return None
        with UnlessAway("our own storage is left out") as storage:
            return await self.run(function, *arguments)
        if storage.failed and time.monotonic() - begun > SLOW_SECONDS:
            self.away = time.monotonic() + AWAY_SECONDS
        return None


class Placed:
    """A repository at a place."""

    def __init__(self, shared: Shared, place: Place, may_read: Callable[[str], bool]) -> None:
        """`may_read` tells whether the client may read another repository of this registry."""
        self.place = place
        self._shared = shared
        self._may_read = may_read

    @property
    def _name(self) -> str:
        return self.place.repository

    def _count(self, figure: str, kind: str, count: int = 1) -> None:
        self._shared.figures.add(figure, self.place.upstream.name, kind, count)

    async def _remote(self) -> Repository:
        upstream = self.place.upstream
        credentials = await upstream.login.credentials()
        client = self._shared.clients[upstream.name]
        return client.repository_at(upstream.endpoint, self.place.path, credentials)

    def _failure(self, error: Exception, missing: RegistryError) -> Exception:
        return failure(error, self.place, missing)
