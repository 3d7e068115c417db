"""What a killed half of the spawner has said is heard, even if a child of its lives on."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from sampan.runtime.spawning.forker import Forker
from sampan.runtime.spawning.keeper import Keeper
from sampan.runtime.spawning.loop import Loop
from sampan.runtime.spawning.messages import Removed, tell
from sampan.runtime.spawning.tasks import Task
from sampan.runtime.spawning.world import World, half_pair
from tests.session import PATIENCE

GONE = ("a" * 64, "")


class Fallen:
    """The channel to a half that was killed: a child that it had just forked holds its end."""

    def __init__(self) -> None:
        self.ours, self.held_by_child = half_pair()
        tell(self.held_by_child, Removed(id=GONE[0], exec_id=""))


@pytest.fixture
def fallen() -> Iterator[Fallen]:
    fallen = Fallen()
    yield fallen
    fallen.ours.close()
    fallen.held_by_child.close()


def world_with(key: tuple[str, str]) -> World:
    task = cast(Task, SimpleNamespace(close=lambda: None))
    return cast(World, SimpleNamespace(tasks={key: task}, state=None))


def test_the_keeper_hears_what_the_forker_said_and_goes_on(fallen: Fallen) -> None:
    world = world_with(GONE)
    keeper = Keeper(world, fallen.ours, forker=1)
    keeper._loop = Loop()
    keeper._relay = cast(object, SimpleNamespace(hubs={}))  # type: ignore[assignment]
    keeper._connect(fallen.ours)
    keeper._hear_last_words()
    keeper._loop.close()
    assert world.tasks == {}
    assert keeper._channel is None


def test_the_forker_does_not_wait_for_more_than_the_keeper_said(fallen: Fallen) -> None:
    fallen.ours.settimeout(PATIENCE)  # a blocking channel, as a forker has it
    forker = Forker(world_with(GONE), fallen.ours, keeper=-1)
    forker._hear_last_words()
    with pytest.raises(BlockingIOError):
        fallen.ours.recv(1)
