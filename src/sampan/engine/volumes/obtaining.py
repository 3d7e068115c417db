"""Volumes for those who need them: found, or made, and held until they have them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from sampan.engine.blocking import blocking, in_own_thread
from sampan.engine.volumes.database import ANONYMOUS, VolumeRow
from sampan.engine.volumes.drivers import doing
from sampan.engine.volumes.store import VolumeStore
from sampan.errors import Conflict, SampanError
from sampan.spec.names import new_id
from sampan.volumes.local import LOCAL


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


class Obtaining:
    """Makes the volumes of a store."""

    def __init__(self, store: VolumeStore) -> None:
        self._store = store

    async def obtain(self, wanted: Sequence[Wanted]) -> Obtained:
        """Return volumes, made if they are missing, and hold them until the store's `release`.

        All or none: after a failure those that were made are gone.
        """
        rows = [await self._row_of(each) for each in wanted]
        async with AsyncExitStack() as locks:
            for name in sorted({row.name for row in rows}):
                await locks.enter_async_context(self._store.lock(name))
            return await self._obtain(wanted, rows)

    async def _obtain(self, wanted: Sequence[Wanted], rows: list[VolumeRow]) -> Obtained:
        obtained = Obtained()
        new: dict[str, VolumeRow] = {}
        for want, row in zip(wanted, rows, strict=True):
            there = self._store.rows.get(row.name) or new.get(row.name)
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
        self._store.hold(obtained.rows)
        return obtained

    async def _row_of(self, wanted: Wanted) -> VolumeRow:
        """Return the row that a volume would have; its name and options are checked."""
        if wanted.name and wanted.name in self._store.rows:
            return self._store.rows[wanted.name]
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
        driver = await self._store.driver(row)
        with doing(f"create {row.name}"):
            driver.check(row.name, row.options or {})
        return row

    async def _make(self, rows: list[VolumeRow]) -> None:
        """Note volumes, then have their drivers make them."""
        await self._store.add(rows)
        try:
            local = [row for row in rows if row.driver == LOCAL]
            if local:
                await blocking(self._make_local, local)
            for row in rows:
                if row.driver != LOCAL:
                    driver = await self._store.driver(row)
                    with doing(f"create {row.name}"):
                        await in_own_thread(driver.create, row.name, row.options or {})
        except BaseException:
            for row in rows:
                await self._store.discard(row, force=True, quietly=True)
            raise
        for row in rows:
            self._store.emit("create", row.name, {"driver": row.driver})

    def _make_local(self, rows: list[VolumeRow]) -> None:
        for row in rows:
            with doing(f"create {row.name}"):
                self._store.drivers.local.create(row.name, row.options or {})

    async def abandon(self, obtained: Obtained) -> None:
        """Let volumes go, and remove those that were made, if nobody else has them by now."""
        self._store.release(obtained.rows)
        for row in obtained.made:
            async with self._store.lock(row.name):
                if row.name in self._store.rows and not self._store.users(row.name):
                    with suppress(SampanError):
                        await self._store.discard(row)
        self._store.collect()

    async def outlive(self, container: str) -> None:
        """Note that a container is about to be removed, and its volumes stay."""
        made = [row for row in self._store.rows.values() if row.made_for == container]
        if made:
            await blocking(self._store.database.keep, container)
            for row in made:
                row.made_for = ""
