"""What the engine says of itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sampan.engine.host import HostFacts, host_facts
from sampan.engine.system import Inventory, StateCounts, System, SystemOptions
from sampan.spec.docker.images import ImageSummary
from sampan.spec.docker.volumes import Volume
from sampan.spec.storage import StorageItem
from sampan.storage.mounter import DriverInfo

ALL_THERE = HostFacts(
    cgroup_version="2",
    memory_limit=True,
    swap_limit=True,
    oom_kill_disable=False,
    cpu_quota=True,
    cpu_shares=True,
    cpuset=True,
    pids_limit=True,
    ipv4_forwarding=True,
    apparmor=False,
    seccomp=True,
    cgroup_namespaces=True,
)


def system(facts: HostFacts = ALL_THERE, **options: Any) -> System:
    async def states() -> StateCounts:
        return StateCounts(running=2, paused=1, stopped=3)

    async def images() -> list[ImageSummary]:
        return [ImageSummary(id="sha256:1", containers=1)]

    async def count() -> int:
        return 4

    async def containers() -> list[Any]:
        return [{"Id": "c"}]

    async def disk() -> list[StorageItem]:
        return [StorageItem(kind="Layers", count=1, size=9)]

    async def volumes() -> list[Volume]:
        return [Volume(driver="local", mountpoint="/v", name="data")]

    async def drivers() -> list[str]:
        return ["local", "remote"]

    inventory = Inventory(
        states=states,
        count_images=count,
        containers=containers,
        images=images,
        volumes=volumes,
        volume_drivers=drivers,
        layers_size=lambda: 7,
        disk=disk,
        storage=lambda: DriverInfo(name="overlay", status=[("Backing Filesystem", "xfs")]),
        listeners=lambda: 5,
    )
    return System(SystemOptions(id="x", root="/data", **options), inventory, lambda: facts)


def test_info_counts_containers_by_state() -> None:
    info = asyncio.run(system(labels=["a=b"]).info())
    assert (info.containers, info.containers_running) == (6, 2)
    assert (info.containers_paused, info.containers_stopped) == (1, 3)
    assert (info.images, info.n_events_listener) == (4, 5)
    assert info.labels == ["a=b"]
    assert (info.driver, info.driver_status) == ("overlay", [["Backing Filesystem", "xfs"]])
    assert info.warnings is None


def test_info_warns_of_every_limit_that_this_host_lacks_and_of_degraded_modes() -> None:
    poor = HostFacts(
        **{field: False for field in HostFacts.__slots__ if field != "cgroup_version"},
        cgroup_version="1",
    )
    info = asyncio.run(system(poor, warnings=["WARNING: degraded"]).info())
    assert info.warnings is not None
    assert "WARNING: No memory limit support" in info.warnings
    assert "WARNING: IPv4 forwarding is disabled" in info.warnings
    assert info.warnings[-1] == "WARNING: degraded"
    assert not info.memory_limit


def test_disk_usage_has_only_what_was_asked_for() -> None:
    some = asyncio.run(system().disk_usage({"image"}))
    assert (some.layers_size, some.containers, some.volumes) == (7, None, None)
    everything = asyncio.run(system().disk_usage())
    assert everything.containers == [{"Id": "c"}]
    assert everything.build_cache == []
    assert [each.name for each in everything.volumes or ()] == ["data"]


def test_the_version_names_the_api_that_is_served() -> None:
    version = system().version()
    assert (version.api_version, version.min_api_version) == ("1.51", "1.24")
    assert version.components[0].details["ApiVersion"] == "1.51"


def test_controllers_are_found_in_both_layouts(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    unified = host_facts(tmp_path)
    assert (unified.cgroup_version, unified.memory_limit, unified.pids_limit) == ("2", True, True)
    (tmp_path / "cgroup.controllers").unlink()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.oom_control").touch()
    separate = host_facts(tmp_path)
    assert (separate.cgroup_version, separate.memory_limit, separate.swap_limit) == (
        "1",
        True,
        False,
    )
    assert separate.oom_kill_disable
    assert not separate.cpu_quota
