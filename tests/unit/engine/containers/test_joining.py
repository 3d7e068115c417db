"""Namespaces of other containers: who may be joined, and who has to wait."""

from __future__ import annotations

import pytest

from sampan.engine.containers import joining
from sampan.engine.containers.container import Container
from sampan.engine.containers.lookup import Table
from sampan.errors import Conflict, InvalidArgument
from sampan.spec.docker.config import HostConfig
from tests.unit.engine.fakes import container


def made(table: Table, name: str, *, running: bool = False, **host: str) -> Container:
    one = container(host=HostConfig(**host), running=running)  # type: ignore[arg-type]
    one.record.name = name
    one.record.pid = 7 if running else 0
    table.reserve(name, one.id)
    table.add(one)
    return one


@pytest.fixture
def table() -> Table:
    return Table()


def test_the_processes_of_those_that_share_are_named(table: Table) -> None:
    made(table, "donor", running=True, ipc_mode="shareable")
    modes = {f"{kind}_mode": "container:donor" for kind in ("network", "pid", "ipc")}
    user = made(table, "user", **modes)
    assert joining.joined(table, user) == {"network": 7, "pid": 7, "ipc": 7}


def test_who_does_not_run_cannot_be_joined(table: Table) -> None:
    made(table, "donor")
    with pytest.raises(Conflict, match="cannot join pid namespace of a non running container"):
        joining.joined(table, made(table, "user", pid_mode="container:donor"))


@pytest.mark.parametrize("mode", ["private", "none", ""])
def test_private_memory_is_not_shared(table: Table, mode: str) -> None:
    made(table, "donor", running=True, ipc_mode=mode)
    with pytest.raises(InvalidArgument, match="non-shareable IPC"):
        joining.joined(table, made(table, "user", ipc_mode="container:donor"))


def test_who_shares_waits_for_the_one_that_is_about_to_start(table: Table) -> None:
    donor = made(table, "donor")
    user = made(table, "user", network_mode="container:donor")
    assert not joining.waits(table, user)  # nobody starts the other
    donor.record.started = True  # before a reboot
    assert joining.waits(table, user)
    donor.record.started, donor.restarting = False, True
    assert joining.waits(table, user)
    assert not joining.waits(table, donor)
    donor.running = True
    assert not joining.waits(table, user)
    donor.running = False
    assert not joining.waits(table, made(table, "lost", pid_mode="container:gone"))


def test_two_that_share_with_one_another_do_not_wait_for_ever(table: Table) -> None:
    first = made(table, "first", pid_mode="container:second")
    second = made(table, "second", pid_mode="container:first")
    first.restarting = second.restarting = True
    assert not joining.waits(table, first)
    assert not joining.waits(table, second)
