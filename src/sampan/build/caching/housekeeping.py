"""The build cache of one engine as its users see it, and how it is kept small."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sampan.build.caching.cache import Cache
from sampan.build.caching.conditions import read_conditions
from sampan.build.caching.pruning import PruneWish, Usage, default_policies, to_prune, usages
from sampan.build.contexts.kept import KeptContexts
from sampan.build.worker import Worker
from sampan.spec.build import GCPolicy

log = logging.getLogger(__name__)


class Housekeeping:
    """Tells what is kept, and removes it. `policies` None are those that Docker has."""

    def __init__(
        self,
        worker: Worker,
        cache: Cache,
        contexts: KeptContexts,
        policies: Sequence[GCPolicy] | None,
    ) -> None:
        self._worker, self._cache, self._contexts = worker, cache, contexts
        self._policies = policies

    async def usages(self) -> list[Usage]:
        """Return the records of the cache, oldest use first."""
        names = [record.key for record in self._cache.records() if record.is_mount]
        mounts = await self._worker.mounted_caches.found(names)
        in_images = self._worker.layers_of_images()
        return usages(self._cache.records(), self._worker.layer_size, in_images, mounts)

    async def prune(self, wish: PruneWish) -> tuple[list[Usage], int]:
        """Forget records, and remove the layers that only they held.

        Returns what has gone, and the bytes that are free now.
        """
        gone = await self._prune(wish)
        has_layer = self._worker.has_layer
        freed = sum(one.size for one in gone if not has_layer(one.record.chain))
        keep = max(wish.reserved, wish.max_used)
        if not wish.conditions and not wish.keep_duration and self._contexts.size > keep:
            freed += self._contexts.drop()
        return gone, freed

    async def _prune(self, wish: PruneWish) -> list[Usage]:
        found = to_prune(await self.usages(), wish, self._worker.space()[0])
        if not found:
            return []
        for one in [one for one in found if one.record.is_mount]:
            if not await self._worker.mounted_caches.remove(one.record.key):
                found.remove(one)
        gone = {it.key for it in await self._cache.remove(one.record.key for one in found)}
        await self._worker.collect()
        return [one for one in found if one.record.key in gone]

    async def sweep(self) -> None:
        """Keep the cache as small as the policies want it, if it has grown."""
        if not self._cache.has_grown:
            return
        self._cache.has_grown = False
        policies = self._policies
        if policies is None:
            policies = default_policies(self._worker.space()[1])
        for policy in policies:
            wish = PruneWish.of(policy, read_conditions(policy.filters))
            if gone := await self._prune(wish):
                log.info("%d records are swept from the build cache", len(gone))
