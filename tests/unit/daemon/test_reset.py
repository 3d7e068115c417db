"""How a reset ends containers that end by themselves meanwhile, or do not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import cast

import pytest

from sampan.daemon.reset import end_all
from sampan.errors import Conflict, NotFound, Unavailable
from sampan.rpc import Fd
from sampan.runtime.spawner import Spawner, Started, TaskStatus
from tests.session import PATIENCE


class Spawned:
    """Processes that a reset takes for containers; `ended` are known to have ended."""

    def __init__(self, *states: str) -> None:
        self.processes = {
            f"box-{number}": subprocess.Popen(["sleep", "1000"]) for number in range(len(states))
        }
        self.states = dict(zip(self.processes, states, strict=True))
        self.ended: set[str] = set()
        self.broken = ""
        self.forgotten: list[str] = []

    def tasks(self) -> list[TaskStatus]:
        return [
            TaskStatus(id=name, state=state, pid=self.processes[name].pid, started_at=0)  # type: ignore[arg-type]
            for name, state in self.states.items()
        ]

    def _running(self, id: str) -> int:
        if id == self.broken:
            raise Unavailable("it does not answer")
        if id in self.ended:
            raise Conflict(f"container {id} is not running")
        return self.processes[id].pid

    def pidfd(self, id: str) -> Started:
        pid = self._running(id)
        return Started(pid=pid, started_at=0, pidfd=Fd(os.pidfd_open(pid)))

    def signal(self, id: str, *, signal: int, all: bool) -> None:
        assert all
        os.kill(self._running(id), signal)
        self.ended.add(id)  # it is known at once

    def freeze(self, id: str, *, frozen: bool) -> None:
        self._running(id)

    def wait(self, id: str) -> None:
        self.processes[id].wait(PATIENCE)

    def forget(self, id: str, *, remove: bool) -> None:
        if self.processes[id].poll() is None:
            raise Conflict(f"container {id} runs")
        assert remove
        self.forgotten.append(id)
        raise NotFound("it was forgotten meanwhile")


@contextlib.contextmanager
def spawned(*states: str) -> Iterator[Spawned]:
    made = Spawned(*states)
    try:
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_container_that_ends_before_it_is_resumed_is_no_failure(state: str) -> None:
    with spawned(state) as spawner:
        end_all(cast(Spawner, spawner))
        assert spawner.forgotten == ["box-0"]
        assert spawner.processes["box-0"].returncode == -signal.SIGKILL


def test_a_container_that_has_ended_by_itself_is_no_failure() -> None:
    with spawned("running") as spawner:
        spawner.processes["box-0"].terminate()
        spawner.ended.add("box-0")
        end_all(cast(Spawner, spawner))
        assert spawner.forgotten == ["box-0"]


def test_one_that_cannot_be_ended_keeps_no_other_one() -> None:
    with spawned("running", "running", "stopped") as spawner:
        spawner.processes["box-2"].kill()
        spawner.processes["box-2"].wait()
        spawner.broken = "box-0"
        with pytest.raises(Unavailable, match="does not answer"):
            end_all(cast(Spawner, spawner))
        assert spawner.forgotten == ["box-1", "box-2"]
