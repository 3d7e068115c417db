"""The volumes that there are: their rows in memory and on disk, who has them, and their end.

Source: moby daemon/volume/service store.go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from weakref import WeakValueDictionary

from sampan.engine.blocking import blocking, in_own_thread
from sampan.engine.tasks import Tasks
from sampan.engine.volumes.database import VolumeDatabase, VolumeRow
from sampan.engine.volumes.drivers import Drivers, doing
from sampan.errors import NotFound, SampanError
from sampan.storage.volume_keeper import VolumeKeeper
from sampan.volumes.driver import VolumeDriver
from sampan.volumes.local import LOCAL

log = logging.getLogger(__name__)
Emit = Callable[[str, str, Mapping[str, str]], None]


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """What a container has of volumes."""

    container: str
    volumes: frozenset[str]
    running: bool


class VolumeStore:
    """What all parts of `Volumes` share; belongs to one event loop.

    `emit` takes events: action, name, attributes.
    """

    def __init__(
        self,
        database: VolumeDatabase,
        drivers: Drivers,
        keeper: VolumeKeeper,
        uses: Callable[[], Iterable[VolumeUse]],
        tasks: Tasks,
        emit: Emit,
    ) -> None:
        self.database, self.drivers, self.keeper = database, drivers, keeper
        self.uses, self.tasks, self.emit = uses, tasks, emit
        self.rows: dict[str, VolumeRow] = {}
        self.paths: dict[str, str] = {}  # where plug-ins have last said that volumes are
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held: Counter[str] = Counter()  # needed by containers that are being made

    # --- reading -----------------------------------------------------------------------------

    def row(self, name: str) -> VolumeRow:
        """Return a volume; NotFound in Docker's words."""
        if name not in self.rows:
            raise NotFound(f"get {name}: no such volume")
        return self.rows[name]

    def users(self, name: str, *, running: bool = False) -> list[str]:
        """Return the containers that have a volume, those that are being made left out."""
        return [
            use.container
            for use in self.uses()
            if name in use.volumes and (use.running or not running)
        ]

    def is_free(self, name: str) -> bool:
        """Tell whether nobody has a volume, and no container that is being made needs it."""
        return name not in self._held and not self.users(name)

    async def driver(self, row: VolumeRow) -> VolumeDriver:
        """Return the driver of a volume; NotFound if it is not there."""
        if row.driver == LOCAL:
            return self.drivers.local
        return await in_own_thread(self.drivers.get, row.driver)

    # --- changes -----------------------------------------------------------------------------

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock that is held by whoever makes, mounts or removes a volume."""
        return self._locks.setdefault(name, asyncio.Lock())

    def hold(self, rows: Iterable[VolumeRow]) -> None:
        """Let nobody remove volumes until `release`."""
        self._held.update(row.name for row in rows)

    def release(self, rows: Iterable[VolumeRow]) -> None:
        """Let volumes go that were held."""
        for row in rows:
            self._held[row.name] -= 1
            if self._held[row.name] <= 0:
                del self._held[row.name]

    async def add(self, rows: list[VolumeRow]) -> None:
        """Note volumes."""
        await blocking(self.database.add, rows)
        self.rows |= {row.name: row for row in rows}

    async def discard(self, row: VolumeRow, *, force: bool = False, quietly: bool = False) -> None:
        """Have a volume removed by its driver, then forget it."""
        try:
            driver = await self.driver(row)
            with doing(f"remove {row.name}"):
                await in_own_thread(driver.remove, row.name)
        except SampanError:
            if not force:
                raise
        await blocking(self.database.delete, [row.name])
        self.rows.pop(row.name, None)
        if not quietly:
            self.emit("destroy", row.name, {"driver": row.driver})

    def collect(self) -> None:
        """Have removed volumes deleted, beside all else."""

        async def collect() -> None:
            try:
                await in_own_thread(self.keeper.collect_volumes)
            except SampanError as error:
                log.debug("the trash of volumes stays for now: %s", error)

        self.tasks.spawn(collect(), "trash of volumes")
