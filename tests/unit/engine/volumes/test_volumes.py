"""The rules of volumes, on folders in memory and a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from sampan.engine.containers.container import Record
from sampan.engine.volumes.obtaining import Wanted
from sampan.errors import Conflict, InvalidArgument, NoSpace, NotFound, Unavailable
from sampan.spec.docker.config import Config, HostConfig
from sampan.spec.docker.containers import MountPoint
from sampan.spec.docker.volumes import VolumeCreateRequest
from tests.unit.engine.volume_world import World

T = TypeVar("T")


def run(world: World, work: Callable[[], Awaitable[T]]) -> T:
    async def inside() -> T:
        await world.volumes.start(world.records)
        try:
            return await work()
        finally:
            await world.tasks.close()

    return asyncio.run(inside())


def request(name: str = "", **more: object) -> VolumeCreateRequest:
    return VolumeCreateRequest(name=name, **more)  # type: ignore[arg-type]


def container(*volumes: str, id: str = "c1") -> Record:
    return Record(
        id=id,
        name="tested",
        created=0,
        image="",
        path="sh",
        args=[],
        config=Config(),
        host_config=HostConfig(),
        mounts=[MountPoint(type="volume", name=it, destination=f"/{it}") for it in volumes],
    )


def test_a_volume_is_made_shown_and_removed() -> None:
    world = World()

    async def work() -> None:
        made = await world.volumes.create(request("data", labels={"a": "b"}))
        assert (made.name, made.driver, made.scope) == ("data", "local", "local")
        assert made.mountpoint == "/data/volumes/data/_data"
        assert (made.labels, made.options) == ({"a": "b"}, None)
        assert await world.volumes.inspect("data") == made
        await world.volumes.remove("data")
        with pytest.raises(NotFound, match="^get data: no such volume$"):  # noqa: RUF043
            await world.volumes.inspect("data")

    run(world, work)
    assert world.keeper.folders == {}
    assert world.actions() == ["create data", "destroy data"]


def test_a_volume_that_is_there_is_returned_as_it_is() -> None:
    world = World()

    async def work() -> None:
        first = await world.volumes.create(request("data", labels={"a": "b"}))
        assert await world.volumes.create(request("data", labels={"c": "d"})) == first
        assert await world.volumes.create(request("data", driver="local")) == first
        with pytest.raises(Conflict) as refused:
            await world.volumes.create(request("data", driver="remote"))
        assert str(refused.value) == (
            "create data: driver 'local' already has volume 'data': volume name must be unique"
        )

    run(world, work)
    assert world.actions() == ["create data"]


def test_a_volume_without_a_name_is_anonymous() -> None:
    world = World()
    made = run(world, lambda: world.volumes.create(request()))
    assert len(made.name) == 64
    assert made.labels == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize(
    ("wanted", "kind", "sentence"),
    [
        (request("../x"), InvalidArgument, 'create ../x: "../x" includes invalid characters'),
        (request("data", driver_opts={"x": "y"}), InvalidArgument, 'data: invalid option: "x"'),
        (
            request("data", driver="nope"),
            NotFound,
            'error looking up volume plugin nope: plugin "nope" not found',
        ),
        (request("data", cluster_volume_spec={"a": 1}), Unavailable, "not a swarm manager"),
    ],
)
def test_a_wrong_wish_makes_nothing(
    wanted: VolumeCreateRequest, kind: type[Exception], sentence: str
) -> None:
    world = World()

    async def work() -> None:
        with pytest.raises(kind, match=sentence.replace("(", r"\(")):
            await world.volumes.create(wanted)
        assert (await world.volumes.list({})).volumes == []

    run(world, work)
    assert (world.keeper.folders, world.events) == ({}, [])


def test_a_full_disk_leaves_nothing() -> None:
    world = World()
    world.keeper.full = True

    async def work() -> None:
        with pytest.raises(NoSpace, match="create data: no space left on device"):
            await world.volumes.create(request("data"))

    run(world, work)
    world.renew()
    assert run(world, lambda: world.volumes.list({})).volumes == []


def test_a_volume_that_a_container_has_is_not_removed_not_even_by_force() -> None:
    world = World()

    async def work() -> None:
        await world.volumes.create(request("data"))
        world.records["c1"] = container("data")
        for force in (False, True):
            with pytest.raises(Conflict) as refused:
                await world.volumes.remove("data", force=force)
            assert str(refused.value) == "remove data: volume is in use - [c1]"

    run(world, work)


def test_what_a_container_that_is_being_made_needs_stays() -> None:
    world = World()

    async def work() -> None:
        obtained = await world.volumes.obtaining.obtain([Wanted(name="data", made_for="c1")])
        with pytest.raises(Conflict, match=r"volume is in use - \[\]"):
            await world.volumes.remove("data")
        await world.volumes.prune({"all": ["true"]})
        assert world.volumes.store.row("data")
        world.volumes.store.release(obtained.rows)
        await world.volumes.remove("data")

    run(world, work)


def test_force_minds_neither_unknown_names_nor_absent_drivers(tmp_path: Path) -> None:
    world = World()
    run(world, lambda: world.volumes.remove("nothing", force=True))
    with pytest.raises(NotFound, match="get nothing: no such volume"):
        run(world, lambda: world.volumes.remove("nothing"))


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["data", "log", "spare"]),
        ({"dangling": ["true"]}, ["log", "spare"]),
        ({"dangling": ["0"]}, ["data"]),
        ({"name": ["a"]}, ["data", "spare"]),
        ({"name": ["^spa", "log"]}, ["log", "spare"]),
        ({"label": ["kind"]}, ["log", "spare"]),
        ({"label": ["kind=old"]}, ["spare"]),
        ({"driver": ["local"]}, ["data", "log", "spare"]),
        ({"driver": ["remote"]}, []),
    ],
)
def test_the_list_is_filtered_as_docker_does(
    filters: dict[str, list[str]], names: list[str]
) -> None:
    world = World()

    async def work() -> None:
        await world.volumes.create(request("spare", labels={"kind": "old"}))
        await world.volumes.create(request("data"))
        await world.volumes.create(request("log", labels={"kind": "new"}))
        world.records["c1"] = container("data")
        answer = await world.volumes.list(filters)
        assert [each.name for each in answer.volumes] == names
        assert answer.warnings is None

    run(world, work)


@pytest.mark.parametrize("filters", [{"colour": ["red"]}, {"dangling": ["maybe"]}])
def test_an_unknown_filter_is_refused(filters: dict[str, list[str]]) -> None:
    world = World()
    with pytest.raises(InvalidArgument, match=r"invalid filter '(colour|dangling)"):
        run(world, lambda: world.volumes.list(filters))


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({}, ["named", "tmpfs", "used"]),
        ({"all": ["true"]}, ["tmpfs", "used"]),
        ({"all": ["true"], "label": ["a"]}, ["tmpfs", "used"]),
        ({"all": ["true"], "label!": ["a"]}, ["named", "tmpfs", "used"]),
    ],
)
def test_a_prune_takes_what_has_no_name_or_all_that_nobody_has(
    filters: dict[str, list[str]], left: list[str]
) -> None:
    world = World()

    async def work() -> None:
        options = {"type": "tmpfs", "device": "tmpfs"}
        await world.volumes.create(request("tmpfs", driver_opts=options, labels={"a": ""}))
        await world.volumes.create(request("named", labels={"a": "b"}))
        await world.volumes.create(request("used"))
        await world.volumes.create(request())
        world.records["c1"] = container("used")
        report = await world.volumes.prune(filters)
        names = [each.name for each in (await world.volumes.list({})).volumes]
        assert [name for name in names if len(name) < 64] == left
        assert report.space_reclaimed == 100 * len(report.volumes_deleted or ())
        assert world.events[-1] == ("prune", "", {"reclaimed": str(report.space_reclaimed)})

    run(world, work)


def test_only_folders_of_this_host_are_measured() -> None:
    world = World()

    async def work() -> None:
        await world.volumes.create(request("data"))
        options = {"type": "tmpfs", "device": "tmpfs"}
        await world.volumes.create(request("tmpfs", driver_opts=options))
        world.records["c1"] = container("data")
        (found,) = await world.volumes.usage()
        assert found.usage_data
        assert (found.name, found.usage_data.size, found.usage_data.ref_count) == ("data", 100, 1)

    run(world, work)


# --- the start of an engine ----------------------------------------------------------------------


def test_volumes_outlast_the_engine() -> None:
    world = World()
    made = run(world, lambda: world.volumes.create(request("data", labels={"a": "b"})))
    world.renew()
    assert run(world, lambda: world.volumes.inspect("data")) == made


def test_what_was_made_for_a_container_that_never_came_to_be_goes() -> None:
    world = World()
    wanted = [Wanted(made_for="lost"), Wanted(name="data", made_for="c1")]
    run(world, lambda: world.volumes.obtaining.obtain(wanted))
    world.renew()
    world.records["c1"] = container("data")
    assert [each.name for each in run(world, lambda: world.volumes.list({})).volumes] == ["data"]
    assert list(world.keeper.folders) == ["data"]


def test_what_was_made_for_a_container_may_outlive_it() -> None:
    world = World()

    async def work() -> None:
        await world.volumes.obtaining.obtain([Wanted(name="data", made_for="c1")])
        await world.volumes.obtaining.outlive("c1")

    run(world, work)
    world.renew()
    assert [each.name for each in run(world, lambda: world.volumes.list({})).volumes] == ["data"]


def test_a_folder_that_an_administrator_brought_back_is_a_volume() -> None:
    world = World()
    world.keeper.folders["restored"] = 0
    shown = run(world, lambda: world.volumes.inspect("restored"))
    assert (shown.driver, shown.mountpoint) == ("local", "/data/volumes/restored/_data")


def test_a_volume_whose_folder_is_gone_gets_an_empty_one() -> None:
    world = World()
    run(world, lambda: world.volumes.create(request("data")))
    world.keeper.folders.clear()
    world.renew()
    run(world, lambda: world.volumes.list({}))
    assert list(world.keeper.folders) == ["data"]
