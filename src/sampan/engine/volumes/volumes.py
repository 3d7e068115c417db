"""Volumes: what containers keep their data in, and what outlives them.

Source: moby daemon/volume/service service.go, store.go, errors.go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from msgspec import UNSET

from sampan.engine.blocking import blocking, in_own_thread
from sampan.engine.filters import Filters
from sampan.engine.tasks import Tasks
from sampan.engine.volumes.database import ANONYMOUS, VolumeDatabase, VolumeRow
from sampan.engine.volumes.drivers import Drivers
from sampan.engine.volumes.foreign import Told, ask_all
from sampan.errors import Conflict, NotFound, SampanError, Unavailable
from sampan.spec.docker.volumes import (
    UsageData,
    Volume,
    VolumeCreateRequest,
    VolumeListResponse,
    VolumesPruneReport,
)
from sampan.spec.image import timestamp
from sampan.spec.names import new_id
from sampan.spec.storage import StorageItem
from sampan.storage.volume_keeper import VolumeKeeper
from sampan.volumes.driver import VolumeDriver
from sampan.volumes.local import LOCAL, is_mounted

log = logging.getLogger(__name__)
Emit = Callable[[str, str, Mapping[str, str]], None]

LIST_FILTERS: Final = ("dangling", "driver", "label", "name")
PRUNE_FILTERS: Final = ("all", "label", "label!")
NO_SWARM: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect'
    " this node to swarm and try again."
)


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """What a container has of volumes."""

    container: str
    volumes: frozenset[str]
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A volume that somebody needs."""

    name: str = ""  # "": a new one without a name of its own
    driver: str = ""  # "": the one that it has, or the local one
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    made_for: str = ""


@dataclass(slots=True)
class Obtained:
    """The volumes that somebody needed."""

    rows: list[VolumeRow] = field(default_factory=list)  # in the order of what was wanted
    made: list[VolumeRow] = field(default_factory=list)  # those that were not there before


class Volumes:
    """The volumes of this engine. `emit` takes events: action, name, attributes."""

    def __init__(
        self,
        database: VolumeDatabase,
        drivers: Drivers,
        keeper: VolumeKeeper,
        uses: Callable[[], Iterable[VolumeUse]],
        tasks: Tasks,
        emit: Emit,
    ) -> None:
        self._database, self.drivers, self._keeper = database, drivers, keeper
        self._uses, self._tasks, self.emit = uses, tasks, emit
        self._rows: dict[str, VolumeRow] = {}
        self.paths: dict[str, str] = {}  # where plug-ins have last said that volumes are
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held: Counter[str] = Counter()  # needed by containers that are being made
        self._pruning = False

    # --- the engine's start ------------------------------------------------------------------

    async def start(self, containers: Iterable[str]) -> None:
        """Bring table and disk together; `containers` are the ids of all that there are.

        What was made for a container that never came to be goes. A folder that nobody has noted
        is an administrator's: it becomes a volume.
        """
        self._rows = {row.name: row for row in await blocking(self._database.all)}
        known = set(containers)
        for row in list(self._rows.values()):
            if row.made_for and row.made_for not in known:
                log.info("the volume %s of a container that was never made goes", row.name)
                if row.driver == LOCAL:
                    await self._discard(row, force=True, quietly=True)
                else:  # a plug-in may take its time
                    self._tasks.spawn(self._discard_later(row), f"removal of volume {row.name}")
        found = {each.name: each for each in await blocking(self._keeper.volumes)}
        strange = [
            VolumeRow(name=name, driver=LOCAL, created=time.time_ns())
            for name in found
            if name not in self._rows
        ]
        if strange:
            log.info("%d volumes were found on the disk", len(strange))
            await blocking(self._database.add, strange)
            self._rows |= {row.name: row for row in strange}
        for row in self._rows.values():
            if row.driver == LOCAL and row.name not in found:
                await blocking(self.drivers.local.create, row.name, row.options or {})
        self._collect()

    async def let_go_unused(self) -> None:
        """Unmount what a predecessor has mounted for containers that do not run any more."""
        for each in await blocking(self._keeper.volumes):
            if each.mounted and not self.users(each.name, running=True):
                row = self._rows.get(each.name)
                if row and is_mounted(row.options or {}):
                    with suppress(SampanError):
                        await blocking(self._keeper.unmount_volume, each.name)

    # --- making ------------------------------------------------------------------------------

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
        obtained = await self.obtain([wanted])
        self.release(obtained.rows)
        return await self._shown(obtained.rows[0], status=True)

    async def obtain(self, wanted: Sequence[Wanted]) -> Obtained:
        """Return volumes, made if they are missing, and hold them until `release`.

        All or none: after a failure those that were made are gone.
        """
        rows = [await self._row_of(each) for each in wanted]
        async with AsyncExitStack() as locks:
            for name in sorted({row.name for row in rows}):
                await locks.enter_async_context(self.lock(name))
            return await self._obtain(wanted, rows)

    async def _obtain(self, wanted: Sequence[Wanted], rows: list[VolumeRow]) -> Obtained:
        obtained = Obtained()
        new: dict[str, VolumeRow] = {}
        for want, row in zip(wanted, rows, strict=True):
            there = self._rows.get(row.name) or new.get(row.name)
            if there is None:
                new[row.name] = there = row
            elif want.driver and want.driver != there.driver:
                raise Conflict(
                    f"create {row.name}: driver '{there.driver}' already has volume"
                    f" '{row.name}': volume name must be unique"
                )
            obtained.rows.append(there)
        if new:
            obtained.made = list(new.values())
            await self._make(obtained.made)
        self._held.update(row.name for row in obtained.rows)
        return obtained

    async def _row_of(self, wanted: Wanted) -> VolumeRow:
        """Return the row that a volume would have; its name and options are checked."""
        if wanted.name and wanted.name in self._rows:
            return self._rows[wanted.name]
        labels = wanted.labels
        if not wanted.name:
            labels = {**(labels or {}), ANONYMOUS: ""}
        row = VolumeRow(
            name=wanted.name or new_id(),
            driver=wanted.driver or LOCAL,
            created=time.time_ns(),
            labels=labels,
            options=wanted.options,
            made_for=wanted.made_for,
        )
        driver = await self.driver(row)
        with _told(f"create {row.name}"):
            driver.check(row.name, row.options or {})
        return row

    async def _make(self, rows: list[VolumeRow]) -> None:
        """Note volumes, then have their drivers make them."""
        await blocking(self._database.add, rows)
        self._rows |= {row.name: row for row in rows}
        try:
            local = [row for row in rows if row.driver == LOCAL]
            if local:
                await blocking(self._make_local, local)
            for row in rows:
                if row.driver != LOCAL:
                    driver = await self.driver(row)
                    with _told(f"create {row.name}"):
                        await in_own_thread(driver.create, row.name, row.options or {})
        except BaseException:
            for row in rows:
                await self._discard(row, force=True, quietly=True)
            raise
        for row in rows:
            self.emit("create", row.name, {"driver": row.driver})

    def _make_local(self, rows: list[VolumeRow]) -> None:
        for row in rows:
            with _told(f"create {row.name}"):
                self.drivers.local.create(row.name, row.options or {})

    def release(self, rows: Iterable[VolumeRow]) -> None:
        """Let volumes go that were obtained."""
        for row in rows:
            self._held[row.name] -= 1
            if self._held[row.name] <= 0:
                del self._held[row.name]

    async def abandon(self, obtained: Obtained) -> None:
        """Let volumes go, and remove those that were made, if nobody else has them by now."""
        self.release(obtained.rows)
        for row in obtained.made:
            async with self.lock(row.name):
                if row.name in self._rows and not self.users(row.name):
                    with suppress(SampanError):
                        await self._discard(row)
        self._collect()

    async def outlive(self, container: str) -> None:
        """Note that a container is about to be removed, and its volumes stay."""
        made = [row for row in self._rows.values() if row.made_for == container]
        if made:
            await blocking(self._database.keep, container)
            for row in made:
                row.made_for = ""

    # --- looking -----------------------------------------------------------------------------

    def row(self, name: str) -> VolumeRow:
        """Return a volume; NotFound in Docker's words."""
        if name not in self._rows:
            raise NotFound(f"get {name}: no such volume")
        return self._rows[name]

    def has(self, name: str) -> bool:
        """Tell whether a volume is there."""
        return name in self._rows

    def users(self, name: str, *, running: bool = False) -> list[str]:
        """Return the containers that have a volume, those that are being made left out."""
        return [
            use.container
            for use in self._uses()
            if name in use.volumes and (use.running or not running)
        ]

    async def inspect(self, name: str) -> Volume:
        """Return one volume, also one that only a plug-in knows."""
        if name not in self._rows:
            for known in (await self._of_plugins()).volumes:
                if known.name == name:
                    return known
        return await self._shown(self.row(name), status=True)

    async def list(self, wanted: Mapping[str, Sequence[str]]) -> VolumeListResponse:
        """Return the volumes that pass the filters, with a warning for each driver that fails."""
        filters = Filters(wanted, LIST_FILTERS)
        dangling = filters.boolean("dangling")
        used = frozenset(name for use in self._uses() for name in use.volumes)
        answer = VolumeListResponse()
        told = await self._of_plugins()
        shown = [await self._shown(row) for row in self._rows.values()] + told.volumes
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
        names = {row.driver for row in self._rows.values()} - {LOCAL}
        told = await ask_all(
            self.drivers, names | {plugin.name for plugin in self.drivers.active()}
        )
        self.paths |= {it.name: it.mountpoint for it in told.volumes if it.name in self._rows}
        told.volumes = [it for it in told.volumes if it.name not in self._rows]
        return told

    async def usage(self) -> Sequence[Volume]:
        """Return what `system df` shows: local volumes that are folders, with their sizes."""
        rows = [row for row in self._rows.values() if row.driver == LOCAL and not row.options]
        sizes = await in_own_thread(self._keeper.volume_usage, [row.name for row in rows])
        counts = Counter(name for use in self._uses() for name in use.volumes)
        found = []
        for row in sorted(rows, key=lambda row: row.name):
            shown = await self._shown(row)
            size = sizes[row.name].size if row.name in sizes else -1
            shown.usage_data = UsageData(ref_count=counts[row.name], size=size)
            found.append(shown)
        return found

    async def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Return the bytes of those that are there of some local volumes."""
        known = [name for name in names if name in self._rows]
        if not known:
            return {}
        found = await in_own_thread(self._keeper.volume_usage, known)
        return {name: max(found[name].size, 0) for name in known if name in found}

    async def storage(self) -> StorageItem:
        """Return what volumes occupy on the disk; a volume that nobody has can be reclaimed."""
        names = [row.name for row in self._rows.values() if row.driver == LOCAL]
        sizes = await in_own_thread(self._keeper.volume_usage, ["", *names])
        item = StorageItem(kind="Volumes", size=sizes.pop("").allocated)
        for name, usage in sizes.items():
            item.count += 1
            item.size += max(usage.allocated, 0)
            item.reclaimable += 0 if self.users(name) else max(usage.allocated, 0)
        return item

    async def _shown(self, row: VolumeRow, *, status: bool = False) -> Volume:
        shown = Volume(
            created_at=timestamp(row.created)[:19] + "Z",
            driver=row.driver,
            labels=row.labels,
            mountpoint="",
            name=row.name,
            options=row.options,
        )
        if row.driver == LOCAL:
            shown.mountpoint = self.drivers.local.path(row.name)
            return shown
        if status:
            driver = await self.driver(row)
            with _told(f"get {row.name}"):
                shown.scope = driver.scope
                self.paths[row.name] = await in_own_thread(driver.path, row.name)
                shown.status = await in_own_thread(driver.status, row.name) or UNSET
        shown.mountpoint = self.paths.get(row.name, "")
        return shown

    # --- removing ----------------------------------------------------------------------------

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume that no container has. Emits `destroy`.

        With `force` an unknown name is no error, nor is a driver that cannot remove.
        """
        async with self.lock(name):
            row = self._rows.get(name)
            if row is None:
                if force:
                    return
                self.row(name)
                return
            self._refuse_used(name)
            await self._discard(row, force=force)
        self._collect()

    def _refuse_used(self, name: str) -> None:
        users = self.users(name)
        if users or name in self._held:
            raise Conflict(f"remove {name}: volume is in use - [{' '.join(users)}]")

    async def _discard(self, row: VolumeRow, *, force: bool = False, quietly: bool = False) -> None:
        """Have a volume removed by its driver, then forget it."""
        try:
            driver = await self.driver(row)
            with _told(f"remove {row.name}"):
                await in_own_thread(driver.remove, row.name)
        except SampanError:
            if not force:
                raise
        await blocking(self._database.delete, [row.name])
        self._rows.pop(row.name, None)
        if not quietly:
            self.emit("destroy", row.name, {"driver": row.driver})

    async def _discard_later(self, row: VolumeRow) -> None:
        async with self.lock(row.name):
            if not self.users(row.name):
                with suppress(SampanError):  # it is tried again at the next start
                    await self._discard(row, quietly=True)

    async def remove_anonymous(self, names: Iterable[str]) -> None:
        """Remove those of a removed container's volumes that were never named, and have no user."""
        for name in names:
            async with self.lock(name):
                row = self._rows.get(name)
                if row is None or not row.is_anonymous or self.users(name) or name in self._held:
                    continue
                try:
                    await self._discard(row)
                except SampanError as error:
                    log.warning("volume %s could not be removed: %s", name, error)
        self._collect()

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
        self.emit("prune", "", {"reclaimed": str(report.space_reclaimed)})
        return report

    async def _prune(self, filters: Filters, everything: bool) -> VolumesPruneReport:
        report = VolumesPruneReport(volumes_deleted=[])
        removed: list[str] = []
        for name in sorted(self._rows):
            async with self.lock(name):
                row = self._rows.get(name)
                if (
                    row is None
                    or row.driver != LOCAL
                    or row.options
                    or not (everything or row.is_anonymous)
                    or not filters.labels(row.labels or {})
                    or not filters.without_labels(row.labels or {})
                    or self.users(name)
                    or name in self._held
                ):
                    continue
                sizes = await in_own_thread(self._keeper.volume_usage, [name])
                with suppress(SampanError):
                    await self._discard(row)
                    removed.append(name)
                    report.space_reclaimed += sizes[name].size if name in sizes else 0
        report.volumes_deleted = removed
        self._collect()
        return report

    # --- parts -------------------------------------------------------------------------------

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock that is held by whoever makes, mounts or removes a volume."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def driver(self, row: VolumeRow) -> VolumeDriver:
        """Return the driver of a volume; NotFound if it is not there."""
        if row.driver == LOCAL:
            return self.drivers.local
        return await in_own_thread(self.drivers.get, row.driver)

    def _collect(self) -> None:
        """Have removed volumes deleted, beside all else."""

        async def collect() -> None:
            try:
                await in_own_thread(self._keeper.collect_volumes)
            except SampanError as error:
                log.debug("the trash of volumes stays for now: %s", error)

        self._tasks.spawn(collect(), "trash of volumes")


class _told:  # noqa: N801 - it reads as a word of the with statement
    """Put before an error what was being done, as Docker does."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SampanError) and not str(error).startswith(self._doing):
            raise type(error)(f"{self._doing}: {error}") from error
