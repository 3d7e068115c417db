"""Removing volumes: one, those that went with their container, and all that nobody has."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from sampan.engine.blocking import in_own_thread
from sampan.engine.filters import Filters
from sampan.engine.volumes.store import VolumeStore
from sampan.errors import Conflict, SampanError
from sampan.spec.docker.volumes import VolumesPruneReport
from sampan.volumes.local import LOCAL

log = logging.getLogger(__name__)
PRUNE_FILTERS: Final = ("all", "label", "label!")


class Removal:
    """Takes volumes out of a store; nothing goes that somebody has or is about to have."""

    def __init__(self, store: VolumeStore) -> None:
        self._store = store
        self._pruning = False

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume that no container has. Emits `destroy`.

        With `force` an unknown name is no error, nor is a driver that cannot remove.
        """
        async with self._store.lock(name):
            row = self._store.rows.get(name)
            if row is None:
                if force:
                    return
                self._store.row(name)
                return
            self._refuse_used(name)
            await self._store.discard(row, force=force)
        self._store.collect()

    def _refuse_used(self, name: str) -> None:
        if not self._store.is_free(name):
            users = " ".join(self._store.users(name))
            raise Conflict(f"remove {name}: volume is in use - [{users}]")

    async def remove_anonymous(self, names: Iterable[str]) -> None:
        """Remove those of a removed container's volumes that were never named, and have no user."""
        for name in names:
            async with self._store.lock(name):
                row = self._store.rows.get(name)
                if row is None or not row.is_anonymous or not self._store.is_free(name):
                    continue
                try:
                    await self._store.discard(row)
                except SampanError as error:
                    log.warning("volume %s could not be removed: %s", name, error)
        self._store.collect()

    async def prune(self, wanted: Mapping[str, Sequence[str]]) -> VolumesPruneReport:
        """Remove local volumes that no container has: anonymous ones, or with the filter `all` all.

        Emits `destroy` for each, and `prune`.
        """
        filters = Filters(wanted, PRUNE_FILTERS)
        everything = filters.boolean("all") or False
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            report = await self._prune(filters, everything)
        finally:
            self._pruning = False
        self._store.emit("prune", "", {"reclaimed": str(report.space_reclaimed)})
        return report

    async def _prune(self, filters: Filters, everything: bool) -> VolumesPruneReport:
        report = VolumesPruneReport(volumes_deleted=[])
        removed: list[str] = []
        for name in sorted(self._store.rows):
            async with self._store.lock(name):
                row = self._store.rows.get(name)
                if (
                    row is None
                    or row.driver != LOCAL
                    or row.options
                    or not (everything or row.is_anonymous)
                    or not filters.labels(row.labels or {})
                    or not filters.without_labels(row.labels or {})
                    or not self._store.is_free(name)
                ):
                    continue
                sizes = await in_own_thread(self._store.keeper.volume_usage, [name])
                with suppress(SampanError):
                    await self._store.discard(row)
                    removed.append(name)
                    report.space_reclaimed += sizes[name].size if name in sizes else 0
        report.volumes_deleted = removed
        self._store.collect()
        return report
