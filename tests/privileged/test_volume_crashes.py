"""An engine that is killed at every step of what it does with volumes: nothing is half.

A step is whatever changes the disk or the database. The container is a file here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from sampan.engine import blocking as crossing
from sampan.engine.containers.container import Record
from sampan.engine.volumes.database import VolumeDatabase
from sampan.linux import trees
from sampan.rpc import Fd
from sampan.spec.docker.config import Config, HostConfig, Mount
from sampan.spec.docker.containers import MountPoint
from sampan.spec.docker.volumes import VolumeCreateRequest
from sampan.storage.linux_volume_keeper import LinuxVolumeKeeper
from tests import mortal
from tests.unit.engine.volume_world import FakeKeeper, World

pytestmark = pytest.mark.privileged

STEPS: tuple[tuple[Any, str], ...] = (
    *((os, name) for name in ("mkdir", "rename", "unlink", "rmdir", "chown")),
    *((VolumeDatabase, name) for name in ("add", "keep", "delete")),
    (trees, "copy_node"),
    (trees, "copy_attributes"),
    (Path, "write_text"),
)
FILES = 4


class Engine:
    """Volumes on a disk; each `entered` is one life of the engine."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.image = place / "image"
        (self.image / "data").mkdir(parents=True)
        for number in range(FILES):
            (self.image / f"data/{number}").write_text("content")
        self.row = place / "container"

    def record(self) -> Record:
        config = Config(volumes={"/data": {}})
        return Record(
            id="c1",
            name="c1",
            created=0,
            image="",
            path="",
            args=[],
            config=config,
            host_config=HostConfig(binds=["named:/data2"]),
        )

    def live(self, work: Callable[[World], Awaitable[None]]) -> World:
        """Start, do something, and end."""
        keeper = LinuxVolumeKeeper(self.place)
        world = World(self.place / "database", cast(FakeKeeper, keeper))
        try:
            asyncio.run(self._live(world, work))
        finally:
            world.database.close()
            keeper.close()
        return world

    async def _live(self, world: World, work: Callable[[World], Awaitable[None]]) -> None:
        if self.row.exists():
            world.records["c1"] = self.record()
            rows = await self._rows(world)
            world.records["c1"].mounts = rows
            for point in rows:  # the one without a name was named by nobody
                source = "" if len(str(point.name)) == 64 else str(point.name)
                spec = Mount(type="volume", source=source, target=point.destination)
                world.records["c1"].specs[point.destination] = spec
        await world.volumes.start(world.records)
        await asyncio.gather(*world.tasks._tasks)
        try:
            await work(world)
        finally:
            await asyncio.gather(*world.tasks._tasks)

    async def _rows(self, world: World) -> Any:
        names = self.row.read_text().split()
        return [MountPoint(type="volume", name=it, destination=f"/{it}") for it in names]

    # --- what an engine does, in the order of `creation` and `removal` ---------------------------

    async def create(self, world: World) -> None:
        record = self.record()
        claim = await world.mounts.claim(record)
        try:
            with Fd(os.open(self.image, os.O_PATH | os.O_DIRECTORY)) as root:
                world.keeper.fill_volumes(root, claim.fills)
            self.row.with_suffix(".new").write_text(" ".join(str(it.name) for it in record.mounts))
            os.rename(self.row.with_suffix(".new"), self.row)
        except BaseException:
            await world.mounts.abandon(claim)
            raise
        world.records["c1"] = record
        world.mounts.settle(claim)

    async def remove(self, world: World) -> None:
        record = world.records["c1"]
        await world.mounts.forget(record)
        os.unlink(self.row)
        del world.records["c1"]
        await world.mounts.remove_anonymous(record)

    async def create_and_remove_named(self, world: World) -> None:
        name = f"other{os.getpid()}"  # another one in each life
        await world.volumes.create(VolumeCreateRequest(name=name))
        await world.volumes.remove(name)

    async def nothing(self, world: World) -> None:
        return None

    # --- whether all is well ---------------------------------------------------------------------

    def check(self) -> None:
        """Compare database, disk and container after one more start."""
        world = self.live(self.nothing)
        names = set(world.volumes.store.rows)
        folders = {it for it in os.listdir(self.place / "volumes") if it != ".trash"}
        assert names == folders
        trash = self.place / "volumes/.trash"
        assert not trash.exists() or os.listdir(trash) == []
        if self.row.exists():
            assert set(self.row.read_text().split()) <= names
        for name in names:
            assert os.listdir(self.place / "volumes" / name) == ["_data"]
            there = os.listdir(self.place / "volumes" / name / "_data")
            assert len(there) in (0, FILES), f"{name} is half filled"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


@pytest.fixture
def countdown() -> Iterator[mortal.Countdown]:
    counter = mortal.Countdown()
    yield counter
    counter.close()


def killed_at_each_step(
    engine: Engine,
    countdown: mortal.Countdown,
    work: Callable[[World], Awaitable[None]],
    before: Callable[[World], Awaitable[None]] | None = None,
) -> int:
    """Kill the engine at the first, second, … step of `work`; return how many there were."""
    step = 0
    while True:
        step += 1
        if before and not engine.row.exists():
            engine.live(before)

        def life(left: int = step) -> None:
            countdown.install(STEPS)
            countdown.left = 0

            async def begun(world: World) -> None:
                countdown.left = left
                await work(world)
                countdown.left = 0

            engine.live(begun)

        crossing._pool.shutdown()  # a child has no threads but its own
        crossing._pool = ThreadPoolExecutor(crossing.THREADS)
        died = mortal.was_killed(mortal.forked(life))
        countdown.left = 0
        engine.check()
        if not died:
            return step


def test_a_creation_that_is_killed_leaves_a_whole_container_or_nothing(
    engine: Engine, countdown: mortal.Countdown
) -> None:
    assert killed_at_each_step(engine, countdown, engine.create) > 10
    assert engine.row.exists()
    names = engine.row.read_text().split()
    assert [len(os.listdir(engine.place / f"volumes/{it}/_data")) for it in names] == [0, FILES]


def test_a_removal_that_is_killed_leaves_what_it_has_not_reached(
    engine: Engine, countdown: mortal.Countdown
) -> None:
    assert killed_at_each_step(engine, countdown, engine.remove, before=engine.create) > 5
    assert "named" in os.listdir(engine.place / "volumes"), "a name keeps a volume"


def test_a_volume_is_there_or_not_however_its_making_and_removal_end(
    engine: Engine, countdown: mortal.Countdown
) -> None:
    assert killed_at_each_step(engine, countdown, engine.create_and_remove_named) > 5
