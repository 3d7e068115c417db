"""What keeps a layer that no image needs: somebody who relies on it now, or a lease."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from sampan.engine.blocking import blocking
from sampan.engine.images.database import ImageDatabase

LEASE: Final = 24 * 3600 * 10**9  # nanoseconds


class Holds:
    """Wants end with this process, leases outlast it."""

    def __init__(self, database: ImageDatabase) -> None:
        self._database = database
        self.leases = database.leases()  # by the key of the snapshot, since when
        self._wanted: Counter[str] = Counter()  # chain ids and diff ids
        self.cached: Counter[str] = Counter()  # chain ids that the build cache holds

    @contextmanager
    def wanted(self, chains: Iterable[str]) -> Iterator[None]:
        """Keep layers in their places, those that are there and those that will be.

        An intake that relies on layers says so before it looks whether they are there: what it
        does not want may go meanwhile. A diff id keeps a layer wherever it lies.
        """
        pinned = list(chains)
        self._wanted.update(pinned)
        try:
            yield
        finally:
            self.want_no_more(pinned)

    def want_no_more(self, wanted: Iterable[str]) -> None:
        """Let layers go that were wanted."""
        for key in wanted:
            self._wanted[key] -= 1
            if self._wanted[key] <= 0:
                del self._wanted[key]

    async def _lease(self, key: str) -> None:
        now = time.time_ns()
        await blocking(self._database.lease, key, now)
        self.leases[key] = now

    def forget_leases(self, keys: Iterable[str]) -> None:
        """Note that leases have ended in the database."""
        for key in keys:
            self.leases.pop(key, None)

    async def end_leases(self, keys: Iterable[str]) -> None:
        """Keep layers no longer that no image needs."""
        ended = [key for key in keys if key in self.leases]
        if ended:
            await blocking(self._database.end_leases, ended)
            self.forget_leases(ended)

    def expired(self, now: int) -> list[str]:
        """Return the leases that have lasted long enough."""
        return [key for key, since in self.leases.items() if not 0 <= now - since < LEASE]
