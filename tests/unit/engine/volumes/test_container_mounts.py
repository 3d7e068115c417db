"""What containers have mounted, from their making to their removal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec import UNSET

from sampan.engine.containers.container import Record
from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError
from sampan.spec.docker.config import Config, DriverConfig, HostConfig, Mount, VolumeOptions
from sampan.spec.docker.volumes import VolumeCreateRequest
from tests.unit.engine.volume_world import World

TMPFS = {"type": "tmpfs", "device": "tmpfs"}


def record(id: str = "c1", config: Config | None = None, **host: object) -> Record:
    return Record(
        id=id,
        name=id,
        created=0,
        image="",
        path="sh",
        args=[],
        config=config or Config(),
        host_config=HostConfig(**host),  # type: ignore[arg-type]
    )


def run(world: World, work: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        await world.volumes.start(world.records)
        try:
            await work()
        finally:
            await world.tasks.close()

    asyncio.run(inside())


async def made(world: World, wanted: Record) -> Record:
    """Claim the mounts of a container, and have it made."""
    claim = await world.mounts.claim(wanted)
    world.records[wanted.id] = wanted
    world.mounts.settle(claim)
    return wanted


def test_mounts_are_shown_as_docker_shows_them() -> None:
    world = World()

    async def work() -> None:
        config = Config(volumes={"/anonymous": {}})
        mounts = [
            Mount(type="volume", source="m1", target="/m1", read_only=True),
            Mount(type="tmpfs", target="/t"),
        ]
        binds = ["/srv:/srv:ro", "v1:/v1", "v2:/v2:ro"]
        found = (await made(world, record(config=config, binds=binds, mounts=mounts))).mounts
        shown = [(it.type, it.name, it.source, it.mode, it.rw, it.propagation) for it in found]
        data = "/data/volumes/{}/_data"
        anonymous = str(found[-1].name)
        assert shown == [
            ("bind", UNSET, "/srv", "ro", False, "rprivate"),
            ("volume", "v1", data.format("v1"), "z", True, ""),
            ("volume", "v2", data.format("v2"), "ro", False, ""),
            ("volume", "m1", data.format("m1"), "z", False, ""),
            ("tmpfs", UNSET, "", "", True, ""),
            ("volume", anonymous, data.format(anonymous), "", True, ""),
        ]
        assert len(anonymous) == 64

    run(world, work)


def test_a_volume_of_the_image_gives_way_to_volumes_from_and_binds_do_not() -> None:
    world = World()

    async def work() -> None:
        await made(world, record("c1", Config(volumes={"/a": {}}), binds=["v1:/b"]))
        wanted = record("c2", Config(volumes={"/a": {}}), binds=["v2:/b"], volumes_from=["c1"])
        found = {it.destination: it.name for it in (await made(world, wanted)).mounts}
        assert found["/a"] == world.records["c1"].mounts[-1].name
        assert found["/b"] == "v2"

    run(world, work)


def test_volumes_from_is_chained_and_may_only_take_rights_away() -> None:
    world = World()

    async def work() -> None:
        options = VolumeOptions(subpath="part")
        mount = Mount(type="volume", source="v1", target="/v1", volume_options=options)
        await made(world, record("c1", mounts=[mount], binds=["v2:/v2"]))
        await made(world, record("c2", volumes_from=["c1:ro"]))
        await made(world, record("c3", volumes_from=["c2:rw"]))
        assert [(it.name, it.rw) for it in world.records["c3"].mounts] == [
            ("v2", False),
            ("v1", False),
        ]
        ready = await world.mounts.mount(world.records["c3"])
        assert [(it.destination, it.subpath) for it in ready.sources] == [("/v1", "part")]

    run(world, work)


def test_only_plain_local_volumes_are_filled_when_the_container_is_made() -> None:
    world = World()

    async def work() -> None:
        await world.volumes.create(VolumeCreateRequest(name="tmp", driver_opts=TMPFS))
        config = Config(volumes={"/a": {}})
        wanted = record("c1", config, binds=["tmp:/t", "v1:/v1", "v2:/v2:nocopy", "/srv:/s"])
        claim = await world.mounts.claim(wanted)
        assert [fill.path for fill in claim.fills] == ["/v1", "/a"]
        assert wanted.late_fills == ["/t"]

    run(world, work)


def test_a_volume_that_is_mounted_is_filled_in_its_place() -> None:
    world = World()

    async def work() -> None:
        await world.mounts.mount(await made(world, record("c1", binds=["v1:/v1"])))
        claim = await world.mounts.claim(record("c2", binds=["v1:/v1", "v2:/v2"]))
        assert [(it.volume, it.in_place) for it in claim.fills] == [("v1", True), ("v2", False)]

    run(world, work)


def test_the_driver_of_a_container_makes_its_volumes() -> None:
    world = World()

    async def work() -> None:
        for wanted in (
            record(binds=["v1:/v1"], volume_driver="nope"),
            record(config=Config(volumes={"/a": {}}), volume_driver="nope"),
        ):
            with pytest.raises(NotFound, match='plugin "nope" not found'):
                await world.mounts.claim(wanted)

    run(world, work)


@pytest.mark.parametrize(
    "wanted",
    [
        record(binds=["v1:/v1", "../x:/x"]),
        record(binds=["v1:/v1", "tmp:/t"], volume_driver="other"),
        record(
            binds=["v1:/v1"],
            mounts=[
                Mount(
                    type="volume",
                    source="v2",
                    target="/y",
                    volume_options=VolumeOptions(driver_config=DriverConfig(options={"x": "y"})),
                )
            ],
        ),
    ],
    ids=["name", "driver", "options"],
)
def test_a_container_that_is_refused_leaves_no_volumes(wanted: Record) -> None:
    world = World()

    async def work() -> None:
        with pytest.raises(SampanError):
            await world.mounts.claim(wanted)
        assert (await world.volumes.list({})).volumes == []

    run(world, work)
    assert world.keeper.folders == {}


def test_a_claim_can_be_taken_back_but_not_from_others() -> None:
    world = World()

    async def work() -> None:
        claim = await world.mounts.claim(record("c1", binds=["v1:/v1", "v2:/v2"]))
        await made(world, record("c2", binds=["v2:/v2"]))
        await world.mounts.abandon(claim)
        assert [each.name for each in (await world.volumes.list({})).volumes] == ["v2"]

    run(world, work)


def test_mounts_are_told_and_the_last_container_lets_go() -> None:
    world = World()

    async def work() -> None:
        await world.volumes.create(VolumeCreateRequest(name="tmp", driver_opts=TMPFS))
        first = await made(world, record("c1", binds=["tmp:/a", "tmp:/b:ro"]))
        second = await made(world, record("c2", binds=["tmp:/a"]))
        await world.mounts.mount(first)
        await world.mounts.mount(second)
        await world.mounts.unmount(first)
        assert list(world.keeper.mounted) == ["tmp"]
        await world.mounts.unmount(second)
        assert list(world.keeper.mounted) == []
        assert world.actions()[1:] == [*["mount tmp"] * 3, *["unmount tmp"] * 2]
        assert world.events[2][2] == {
            "driver": "local", "container": "c1", "destination": "/b",
            "read/write": "false", "propagation": "",
        }  # fmt: skip

    run(world, work)


def test_a_copy_mounts_for_itself_and_has_no_events() -> None:
    world = World()

    async def work() -> None:
        await world.volumes.create(VolumeCreateRequest(name="tmp", driver_opts=TMPFS))
        first = await made(world, record("c1", binds=["tmp:/a"]))
        await world.mounts.mount(first, "copy-1")
        await world.mounts.mount(first)
        await world.mounts.unmount(first, "copy-1")
        assert list(world.keeper.mounted) == ["tmp"]
        assert world.actions() == ["create tmp", "mount tmp"]

    run(world, work)


def test_a_mount_that_fails_leaves_none() -> None:
    world = World()

    async def work() -> None:
        await world.volumes.create(VolumeCreateRequest(name="tmp", driver_opts=TMPFS))
        await world.volumes.create(VolumeCreateRequest(name="bad", driver_opts=TMPFS))
        first = await made(world, record("c1", binds=["tmp:/a", "bad:/b"]))
        keep = world.keeper.mount_volume

        def mount_volume(name: str, mount: object) -> None:
            if name == "bad":
                raise InvalidArgument("no such device")
            keep(name, mount)  # type: ignore[arg-type]

        world.keeper.mount_volume = mount_volume  # type: ignore[method-assign]
        with pytest.raises(InvalidArgument, match="error while mounting volume"):
            await world.mounts.mount(first)
        assert world.keeper.mounted == {}

    run(world, work)


def test_a_restart_of_the_engine_lets_go_what_nobody_runs_with() -> None:
    world = World()

    async def work() -> None:
        for name in ("kept", "left"):
            await world.volumes.create(VolumeCreateRequest(name=name, driver_opts=TMPFS))
        await world.mounts.mount(await made(world, record("c1", binds=["kept:/a"])))
        await world.mounts.mount(await made(world, record("c2", binds=["left:/a"])))
        world.running = {"c1"}
        world.renew()
        await world.volumes.start(world.records)
        world.mounts.resume([world.records["c1"]])
        await world.volumes.let_go_unused()
        assert list(world.keeper.mounted) == ["kept"]
        await world.mounts.unmount(world.records["c1"])
        assert world.keeper.mounted == {}

    run(world, work)


def test_anonymous_volumes_go_with_the_last_container_that_has_them() -> None:
    world = World()

    async def work() -> None:
        config = Config(volumes={"/a": {}})
        first = await made(world, record("c1", config, binds=["named:/n"]))
        second = await made(world, record("c2", volumes_from=["c1"]))
        for each in (first, second):
            with pytest.raises(Conflict):
                await world.volumes.remove(str(first.mounts[-1].name))
            await world.mounts.forget(each)
            del world.records[each.id]
            await world.mounts.remove_anonymous(each)
        assert [each.name for each in (await world.volumes.list({})).volumes] == ["named"]

    run(world, work)


def test_volumes_stay_after_a_removal_that_does_not_ask_for_them_and_a_restart() -> None:
    world = World()

    async def work() -> None:
        first = await made(world, record("c1", Config(volumes={"/a": {}})))
        await world.mounts.forget(first)
        del world.records["c1"]
        world.renew()
        await world.volumes.start(world.records)
        assert len((await world.volumes.list({})).volumes) == 1

    run(world, work)
