"""Volumes: what containers keep their data in, and what outlives them.

Source: moby daemon/volume/service service.go, store.go, errors.go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from sampan.engine.blocking import blocking
from sampan.engine.volumes.database import VolumeRow
from sampan.engine.volumes.listing import Listing
from sampan.engine.volumes.obtaining import Obtaining, Wanted
from sampan.engine.volumes.removal import Removal
from sampan.engine.volumes.store import VolumeStore
from sampan.errors import SampanError, Unavailable
from sampan.spec.docker.volumes import (
    Volume,
    VolumeCreateRequest,
    VolumeListResponse,
    VolumesPruneReport,
)
from sampan.spec.storage import StorageItem
from sampan.volumes.local import LOCAL, is_mounted

log = logging.getLogger(__name__)

NO_SWARM: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect'
    " this node to swarm and try again."
)


class Volumes:
    """The volumes of this engine.

    What clients ask for is here; what containers need of volumes, ContainerMounts asks the parts.
    """

    def __init__(self, store: VolumeStore) -> None:
        self.store, self._listing = store, Listing(store)
        self.obtaining, self.removal = Obtaining(store), Removal(store)

    # --- the engine's start ------------------------------------------------------------------

    async def start(self, containers: Iterable[str]) -> None:
        """Bring table and disk together; `containers` are the ids of all that there are.

        What was made for a container that never came to be goes. A folder that nobody has noted
        is an administrator's: it becomes a volume.
        """
        store = self.store
        store.rows = {row.name: row for row in await blocking(store.database.all)}
        known = set(containers)
        for row in list(store.rows.values()):
            if row.made_for and row.made_for not in known:
                log.info("the volume %s of a container that was never made goes", row.name)
                if row.driver == LOCAL:
                    await store.discard(row, force=True, quietly=True)
                else:  # a plug-in may take its time
                    store.tasks.spawn(self._discard_later(row), f"removal of volume {row.name}")
        found = {each.name: each for each in await blocking(store.keeper.volumes)}
        strange = [
            VolumeRow(name=name, driver=LOCAL, created=time.time_ns())
            for name in found
            if name not in store.rows
        ]
        if strange:
            log.info("%d volumes were found on the disk", len(strange))
            await store.add(strange)
        for row in store.rows.values():
            if row.driver == LOCAL and row.name not in found:
                await blocking(store.drivers.local.create, row.name, row.options or {})
        store.collect()

    async def let_go_unused(self) -> None:
        """Unmount what a predecessor has mounted for containers that do not run any more."""
        for each in await blocking(self.store.keeper.volumes):
            if each.mounted and not self.store.users(each.name, running=True):
                row = self.store.rows.get(each.name)
                if row and is_mounted(row.options or {}):
                    with suppress(SampanError):
                        await blocking(self.store.keeper.unmount_volume, each.name)

    async def _discard_later(self, row: VolumeRow) -> None:
        async with self.store.lock(row.name):
            if not self.store.users(row.name):
                with suppress(SampanError):  # it is tried again at the next start
                    await self.store.discard(row, quietly=True)

    # --- what clients ask for ----------------------------------------------------------------

    async def create(self, request: VolumeCreateRequest) -> Volume:
        """Make a volume; one of that name is returned as it is. Emits `create`.

        Raises Conflict if another driver has the name, InvalidArgument for names and options.
        """
        if request.cluster_volume_spec:
            raise Unavailable(NO_SWARM)
        wanted = Wanted(
            name=request.name,
            driver=request.driver,
            labels=request.labels,
            options=request.driver_opts,
        )
        obtained = await self.obtaining.obtain([wanted])
        self.store.release(obtained.rows)
        return await self._listing.shown(obtained.rows[0], status=True)

    async def inspect(self, name: str) -> Volume:
        """Return one volume, also one that only a plug-in knows."""
        return await self._listing.inspect(name)

    async def list(self, wanted: Mapping[str, Sequence[str]]) -> VolumeListResponse:
        """Return the volumes that pass the filters, with a warning for each driver that fails."""
        return await self._listing.list(wanted)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume that no container has. Emits `destroy`.

        With `force` an unknown name is no error, nor is a driver that cannot remove.
        """
        await self.removal.remove(name, force=force)

    async def prune(self, wanted: Mapping[str, Sequence[str]]) -> VolumesPruneReport:
        """Remove local volumes that no container has: anonymous ones, or with the filter `all` all.

        Emits `destroy` for each, and `prune`.
        """
        return await self.removal.prune(wanted)

    async def usage(self) -> Sequence[Volume]:
        """Return what `system df` shows: local volumes that are folders, with their sizes."""
        return await self._listing.usage()

    async def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Return the bytes of those that are there of some local volumes."""
        return await self._listing.sizes(names)

    async def storage(self) -> StorageItem:
        """Return what volumes occupy on the disk; a volume that nobody has can be reclaimed."""
        return await self._listing.storage()

    def driver_names(self) -> Sequence[str]:
        """Return the names of all drivers that there are; this blocks."""
        return self.store.drivers.names()

    def has(self, name: str) -> bool:
        """Tell whether a volume is there."""
        return name in self.store.rows

    def users(self, name: str) -> Sequence[str]:
        """Return the containers that have a volume, those that are being made left out."""
        return self.store.users(name)
