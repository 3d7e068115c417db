from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import pytest

from sampan.engine.containers.oom_watch import OOMWatch
from sampan.rpc import Fd


@dataclass
class Group:
    """A cgroup that counts what the test says."""

    kills: int = 0
    there: bool = True

    def exists(self) -> bool:
        return self.there

    def oom_kills(self) -> int:
        return self.kills


async def changes(group: Group, *, counts: bool, kills: list[int]) -> int:
    """Return how often it was told while the kernel's file changed once for each count."""
    event = Fd(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    told: list[None] = []
    watch = OOMWatch(event, group, lambda: told.append(None), counts=counts)
    for group.kills in kills:
        os.eventfd_write(event.number, 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert watch.told is bool(told)
    watch.end()
    return len(told)


def test_every_kill_is_told() -> None:
    assert asyncio.run(changes(Group(), counts=True, kills=[1, 2])) == 2


def test_a_change_without_a_kill_is_not_told() -> None:
    assert asyncio.run(changes(Group(kills=3), counts=True, kills=[3, 3, 4, 4])) == 1


def test_on_version_1_every_event_is_a_shortage() -> None:
    assert asyncio.run(changes(Group(), counts=False, kills=[0, 0])) == 2


@pytest.mark.parametrize("counts", [False, True])
def test_the_removal_of_the_cgroup_is_not_told(counts: bool) -> None:
    assert asyncio.run(changes(Group(there=False), counts=counts, kills=[0])) == 0
