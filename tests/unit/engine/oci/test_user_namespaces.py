"""Which user namespace a container gets, and what is refused with one."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from sampan.engine.containers.container import Container
from sampan.engine.containers.lookup import Table
from sampan.engine.database import Database
from sampan.engine.oci.id_ranges import IdRanges
from sampan.engine.oci.user_namespaces import Spaces, UserNamespaces, UserOptions
from sampan.errors import InvalidArgument
from sampan.rpc import Fd
from sampan.runtime.spawner import Namespaces, Spawner
from sampan.spec.docker.config import Config, HostConfig
from sampan.spec.runtime import LinuxIDMapping
from sampan.spec.user_modes import IdMaps
from tests.unit.engine.fakes import container

REMAP = [LinuxIDMapping(container_id=0, host_id=100_000, size=65536)]
REMAPPED = IdMaps(uids=REMAP, gids=REMAP)


class World:
    """User namespaces over a spawner that only notes what it is asked for."""

    def __init__(self, default: Any = None) -> None:
        self.table, self.asked = Table(), [(0, False, "")][:0]
        self.database = Database(":memory:")
        ranges = IdRanges(self.database, [(1_000_000, 1 << 20)])
        options = UserOptions(default=default, pool=[])
        self.users = UserNamespaces(self.table, ranges, cast("Spawner", self), options)

    def namespaces(
        self, uids: list[LinuxIDMapping], gids: list[LinuxIDMapping], *, network: bool, of: str
    ) -> Namespaces:
        self.asked.append((uids[0].host_id, network, of))
        read, write = os.pipe()
        return Namespaces(user=Fd(read), network=Fd(write) if network else os.close(write))

    def add(self, host: HostConfig | None = None, *, running: bool = True) -> Container:
        """Create a container, and start it."""
        made = container(Config(image="busybox"), host or HostConfig(), running=running)
        made.record.name = made.id[:12]
        self.users.reserve(made.record, AsyncExitStack())
        self.table.reserve(made.record.name, made.id)
        self.table.add(made)
        if running:
            made.record.pid = 1234
            self.start(made)
        return made

    def start(self, it: Container) -> Spaces:
        async def start() -> Spaces:
            async with AsyncExitStack() as undo:
                return await self.users.make(it, undo)

        return asyncio.run(start())


def test_without_a_wish_a_container_is_in_the_hosts() -> None:
    world = World()
    assert world.start(world.add()) == Spaces()
    assert world.asked == []


def test_auto_gives_each_container_a_range_that_it_keeps() -> None:
    world = World()
    one, two = (world.add(HostConfig(userns_mode="auto")) for _ in range(2))
    world.start(one)
    assert [first for first, _, _ in world.asked] == [1_000_000, 1_065_536, 1_000_000]
    assert one.record.id_range == (1_000_000, 65536)
    assert two.record.id_maps != one.record.id_maps


def test_the_daemon_decides_for_those_that_say_nothing() -> None:
    world = World(REMAPPED)
    assert world.add().record.id_maps == REMAPPED
    assert world.add(HostConfig(userns_mode="host")).record.id_maps is None
    assert world.add(HostConfig(userns_mode="auto")).record.id_range == (1_000_000, 65536)
    automatic = World("auto")
    assert automatic.add().record.id_range == (1_000_000, 65536)


def test_one_that_was_made_before_the_daemon_decided_gets_its_range_at_its_start() -> None:
    world = World("auto")
    old = container(Config(image="busybox"), HostConfig())
    world.database.save_container(old.id, "old", b"")
    world.start(old)
    assert old.record.id_range == (1_000_000, 65536)
    assert world.database.id_ranges() == [(1_000_000, 65536)]
    world.database.delete_container(old.id)
    assert world.database.id_ranges() == []


@pytest.mark.parametrize(
    ("mode", "network"), [("bridge", True), ("host", False), ("none", True), ("container", False)]
)
def test_a_network_of_its_own_belongs_to_it(mode: str, network: bool) -> None:
    world = World(REMAPPED)
    other = world.add()
    mode = f"container:{other.id}" if mode == "container" else mode
    if mode == "host":
        world.add(HostConfig(userns_mode="auto", network_mode=mode))
    else:
        world.add(HostConfig(network_mode=mode))
    assert world.asked[-1][1] == network


@pytest.mark.parametrize("kind", ["network_mode", "pid_mode", "ipc_mode"])
def test_who_shares_a_namespace_shares_the_user_namespace(kind: str) -> None:
    world = World()
    other = world.add(HostConfig(userns_mode="auto"))
    guest = world.add(HostConfig(**{kind: f"container:{other.id}"}))  # type: ignore[arg-type]
    spaces = world.start(guest)
    assert guest.record.id_maps == other.record.id_maps
    assert guest.record.id_range == other.record.id_range
    assert spaces.joined == other.record.pid
    assert world.asked[-1] == (1_000_000, kind != "network_mode", other.id)


def test_the_hosts_can_be_kept_beside_a_remapped_container() -> None:
    world = World(REMAPPED)
    other = world.add()
    mode = f"container:{other.id}"
    assert world.add(HostConfig(userns_mode="host", network_mode=mode)).record.id_maps is None


def test_namespaces_of_containers_in_different_user_namespaces_do_not_go_together() -> None:
    world = World()
    one, two = (world.add(HostConfig(userns_mode="auto")) for _ in range(2))
    host = HostConfig(network_mode=f"container:{one.id}", ipc_mode=f"container:{two.id}")
    with pytest.raises(InvalidArgument, match="different user namespaces"):
        world.add(host)


def test_a_range_of_its_own_and_a_namespace_of_another_do_not_go_together() -> None:
    with pytest.raises(InvalidArgument, match="conflicting options: --userns=auto"):
        World().users.check(HostConfig(userns_mode="auto", pid_mode="container:x"))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (HostConfig(privileged=True), "privileged mode is incompatible with user namespaces"),
        (HostConfig(network_mode="host"), "cannot share the host's network namespace when user"),
        (HostConfig(pid_mode="host"), "cannot share the host PID namespace when user namespaces"),
    ],
)
def test_docker_rules_out_what_needs_the_hosts(host: HostConfig, reason: str) -> None:
    World().users.check(host)
    for default in (REMAPPED, "auto"):
        with pytest.raises(InvalidArgument, match=reason):
            World(default).users.check(host)
        host.userns_mode = "host"
        World(default).users.check(host)
        host.userns_mode = ""
