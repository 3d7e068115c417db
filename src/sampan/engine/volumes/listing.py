"""What is shown of volumes: one, all of them, and what they occupy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import UNSET

from sampan.engine.blocking import in_own_thread
from sampan.engine.filters import Filters
from sampan.engine.volumes.database import VolumeRow
from sampan.engine.volumes.drivers import doing
from sampan.engine.volumes.foreign import Told, ask_all
from sampan.engine.volumes.store import VolumeStore
from sampan.spec.docker.volumes import UsageData, Volume, VolumeListResponse
from sampan.spec.image import timestamp
from sampan.spec.storage import StorageItem
from sampan.volumes.local import LOCAL

LIST_FILTERS: Final = ("dangling", "driver", "label", "name")


class Listing:
    """Looks at the volumes of a store, and asks plug-ins for theirs."""

    def __init__(self, store: VolumeStore) -> None:
        self._store = store

    async def inspect(self, name: str) -> Volume:
        """Return one volume, also one that only a plug-in knows."""
        if name not in self._store.rows:
            for known in (await self._of_plugins()).volumes:
                if known.name == name:
                    return known
        return await self.shown(self._store.row(name), status=True)

    async def list(self, wanted: Mapping[str, Sequence[str]]) -> VolumeListResponse:
        """Return the volumes that pass the filters, with a warning for each driver that fails."""
        filters = Filters(wanted, LIST_FILTERS)
        dangling = filters.boolean("dangling")
        used = frozenset(name for use in self._store.uses() for name in use.volumes)
        answer = VolumeListResponse()
        told = await self._of_plugins()
        shown = [await self.shown(row) for row in self._store.rows.values()] + told.volumes
        for volume in sorted(shown, key=lambda volume: volume.name):
            if (
                (dangling is not None and dangling == (volume.name in used))
                or not filters.one_of("driver", volume.driver)
                or not filters.matching("name", volume.name)
                or not filters.labels(volume.labels or {})
            ):
                continue
            answer.volumes.append(volume)
        answer.warnings = told.warnings or None
        return answer

    async def _of_plugins(self) -> Told:
        """Return the volumes that only plug-ins know."""
        names = {row.driver for row in self._store.rows.values()} - {LOCAL}
        told = await ask_all(
            self._store.drivers, names | {plugin.name for plugin in self._store.drivers.active()}
        )
        self._store.paths |= {
            it.name: it.mountpoint for it in told.volumes if it.name in self._store.rows
        }
        told.volumes = [it for it in told.volumes if it.name not in self._store.rows]
        return told

    async def usage(self) -> Sequence[Volume]:
        """Return what `system df` shows: local volumes that are folders, with their sizes."""
        rows = [row for row in self._store.rows.values() if row.driver == LOCAL and not row.options]
        sizes = await in_own_thread(self._store.keeper.volume_usage, [row.name for row in rows])
        counts = Counter(name for use in self._store.uses() for name in use.volumes)
        found = []
        for row in sorted(rows, key=lambda row: row.name):
            shown = await self.shown(row)
            size = sizes[row.name].size if row.name in sizes else -1
            shown.usage_data = UsageData(ref_count=counts[row.name], size=size)
            found.append(shown)
        return found

    async def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Return the bytes of those that are there of some local volumes."""
        known = [name for name in names if name in self._store.rows]
        if not known:
            return {}
        found = await in_own_thread(self._store.keeper.volume_usage, known)
        return {name: max(found[name].size, 0) for name in known if name in found}

    async def storage(self) -> StorageItem:
        """Return what volumes occupy on the disk; a volume that nobody has can be reclaimed."""
        names = [row.name for row in self._store.rows.values() if row.driver == LOCAL]
        sizes = await in_own_thread(self._store.keeper.volume_usage, ["", *names])
        item = StorageItem(kind="Volumes", size=sizes.pop("").allocated)
        for name, usage in sizes.items():
            item.count += 1
            item.size += max(usage.allocated, 0)
            item.reclaimable += 0 if self._store.users(name) else max(usage.allocated, 0)
        return item

    async def shown(self, row: VolumeRow, *, status: bool = False) -> Volume:
        """Return a volume as clients see it; with `status` its plug-in is asked."""
        shown = Volume(
            created_at=timestamp(row.created)[:19] + "Z",
            driver=row.driver,
            labels=row.labels,
            mountpoint="",
            name=row.name,
            options=row.options,
        )
        if row.driver == LOCAL:
            shown.mountpoint = self._store.drivers.local.path(row.name)
            return shown
        if status:
            driver = await self._store.driver(row)
            with doing(f"get {row.name}"):
                shown.scope = driver.scope
                self._store.paths[row.name] = await in_own_thread(driver.path, row.name)
                shown.status = await in_own_thread(driver.status, row.name) or UNSET
        shown.mountpoint = self._store.paths.get(row.name, "")
        return shown
