"""Cgroups of containers that are gone, on a fake of cgroupfs and of time."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from sampan.linux.cgroups.cgroup import Cgroup
from sampan.linux.cgroups.processes import PATIENCE
from sampan.rpc import Pending
from sampan.runtime.spawning.removals import Removals
from sampan.runtime.spawning.tasks import StateFiles

ID, PATH = "c" * 64, "/sampan/" + "c" * 64


class FakeCgroup:
    """A cgroup in which something is dying for some tries."""

    def __init__(self) -> None:
        self.busy, self.there, self.kills = 0, True, 0
        self.refusal: OSError | None = None  # what `kill` raises

    def kill(self) -> None:
        self.kills += 1
        if self.refusal:
            raise self.refusal

    def exists(self) -> bool:
        return self.there

    def remove(self, patience: float = 0) -> None:
        if self.busy:
            self.busy -= 1
            raise OSError(errno.EBUSY, "something is in it")
        self.there = False


class Clock:
    """Does what was to be done later when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.now = 0.0

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.now += seconds
        self.waiting.append(action)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        while self.waiting and not until():
            self.waiting.pop(0)()


class Site:
    """Removals with all that they stand on."""

    def __init__(self, folder: Path) -> None:
        self.state, self.cgroup, self.clock = StateFiles(folder), FakeCgroup(), Clock()
        self.owner = ""
        self.answered = 0
        self.removals = self.successor()

    def successor(self) -> Removals:
        """Return those of another forker, with the same files."""

        def opened(path: str) -> Cgroup:
            assert path == PATH
            return cast(Cgroup, self.cgroup)

        return Removals(self.state, self.clock.later, lambda _: self.owner, opened)

    def remove(self) -> None:
        answer: Pending[None] = Pending()
        answer._deliver(lambda _: setattr(self, "answered", self.answered + 1))
        self.removals.remove(ID, PATH, answer)

    def noted(self) -> list[tuple[str, str]]:
        return list(self.state.unsettled())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "runtime")


def test_an_empty_cgroup_is_removed_at_once(site: Site) -> None:
    site.remove()
    assert not site.cgroup.there
    assert (site.answered, site.cgroup.kills, site.clock.waiting, site.noted()) == (1, 0, [], [])


def test_a_busy_cgroup_is_removed_however_long_it_takes(site: Site) -> None:
    site.cgroup.busy = 1000
    site.remove()
    assert site.answered == 0
    site.clock.run()
    assert not site.cgroup.there
    assert site.cgroup.kills >= 1000
    assert (site.answered, site.noted()) == (1, [])


def test_the_daemon_does_not_wait_for_a_cgroup_that_hangs(site: Site) -> None:
    site.cgroup.busy = 1000
    site.remove()
    site.clock.run(until=lambda: site.answered > 0)
    assert site.clock.now == pytest.approx(PATIENCE, abs=0.1)
    assert site.noted() == [(ID, PATH)]


def test_a_kill_that_is_refused_does_not_end_the_removal(site: Site) -> None:
    site.cgroup.busy, site.cgroup.refusal = 5, TimeoutError(errno.ETIMEDOUT, "unable to freeze")
    site.remove()
    site.clock.run()
    assert not site.cgroup.there


def test_the_next_forker_goes_on(site: Site) -> None:
    site.cgroup.busy = 5
    site.remove()
    site.clock.waiting.clear()  # it was killed
    site.successor().resume()
    site.clock.run()
    assert not site.cgroup.there
    assert site.noted() == []


def test_the_forker_goes_on_when_its_loop_is_a_new_one(site: Site) -> None:
    site.cgroup.busy = 5
    site.remove()
    site.clock.waiting.clear()
    site.removals.resume()
    site.clock.run()
    assert not site.cgroup.there
    assert site.answered == 1


def test_a_container_that_runs_again_keeps_its_cgroup_and_its_state(site: Site) -> None:
    site.cgroup.busy = 5
    site.remove()
    site.removals.begin_again(ID)
    site.cgroup.there, site.owner = True, ID
    site.state.intend(ID, PATH)
    site.clock.run()
    assert site.cgroup.there
    assert (site.answered, site.noted()) == (1, [(ID, PATH)])


def test_the_cgroup_of_another_container_is_let_alone(site: Site) -> None:
    site.owner = "d" * 64
    site.remove()
    assert site.cgroup.there
    assert site.answered == 1


def test_who_asks_again_is_answered_when_it_is_gone(site: Site) -> None:
    site.cgroup.busy = 5
    site.remove()
    again: Pending[None] = Pending()
    told: list[object] = []
    again._deliver(told.append)
    site.removals.answer_when_gone(ID, again)
    assert not told
    site.clock.run()
    assert told


def test_a_spawner_that_is_to_end_removes_first(site: Site) -> None:
    site.cgroup.busy = 1
    site.remove()
    site.removals.finish()
    assert not site.cgroup.there
    assert (site.answered, site.noted()) == (1, [])


def test_a_path_that_is_none_needs_no_removal(site: Site) -> None:
    answer: Pending[None] = Pending()
    told: list[object] = []
    answer._deliver(told.append)
    Removals(site.state, site.clock.later, lambda _: "").remove(ID, "/../x", answer)
    assert told
