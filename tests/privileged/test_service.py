"""Ends and failed starts as the forker sees them, at moments that no load hits at will."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import Conflict, Internal, SampanError
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.rpc import Fd
from sampan.runtime import exits
from sampan.runtime.spawner import ExecLaunch, Launch, Streams
from sampan.runtime.spawning.messages import Message
from sampan.runtime.spawning.service import Service
from sampan.runtime.spawning.tasks import Key, Task
from sampan.runtime.spawning.world import Launcher, Launching, World
from sampan.runtime.starting.requests import Launched
from sampan.spec.names import new_id
from sampan.spec.runtime import Linux, LinuxNamespace, Process, Spec
from tests import session

pytestmark = [pytest.mark.privileged]


class Program:
    """A process in a cgroup, as a start that has come so far."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open_cgroup(path).entry() as entry:
            self.pid = os.fork()
            if not self.pid:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                entry.enter()
                os.execv("/bin/sleep", ["sleep", "1000"])
        self.pidfd = os.pidfd_open(self.pid)
        session.eventually(lambda: Path(f"/proc/{self.pid}/comm").read_text() == "sleep\n")
        self.failure: SampanError | None = None

    def fileno(self) -> int:
        return self.pidfd

    def finish(self) -> Launched:
        if self.failure:
            raise self.failure
        return Launched(
            pid=self.pid,
            pidfd=Fd(os.dup(self.pidfd)),
            master=None,
            warnings=[],
            cgroup=self.path,
            started_at=1,
        )

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)


class Forker:
    """Has the children; a start is finished and time passes when the test says so."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.under_way: list[Callable[[], None]] = []
        self.waiting: list[Callable[[], None]] = []

    def tell(self, message: Message) -> None:
        pass

    def when_ready(self, launching: Launching, action: Callable[[], None]) -> None:
        self.under_way.append(action)

    def add(self, task: Task) -> None:
        self.world.tasks[task.record.key] = task

    def forget(self, key: Key) -> Task | None:
        return self.world.tasks.pop(key, None)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.waiting.append(action)


class Site:
    """A service whose programs are started by the test."""

    def __init__(self, folder: Path) -> None:
        self.id = new_id()
        self.programs: list[Program] = []
        self.path = f"/sampan/{self.id}"
        session.containers.add(self.id)
        launcher = Launcher(start=self._launch, exec=self._launch_exec)
        folder.joinpath("run").mkdir()
        listener = socket.socket(socket.AF_UNIX)
        self.world = World(folder / "data", folder / "run", 0, 0, listener, -1, launcher)
        self.forker = Forker(self.world)
        self.service = Service(self.forker)

    def _launch(self, request: object) -> Program:
        open_cgroup(self.path).create()
        return self._launch_exec(request)

    def _launch_exec(self, _: object) -> Program:
        self.programs.append(Program(self.path))
        return self.programs[-1]

    def start(self) -> None:
        """Begin to start the container."""
        linux = Linux(namespaces=[LinuxNamespace(type="pid")])
        spec = Spec(process=Process(args=["/bin/sleep"]), linux=linux)
        self.answer = self.service.start(
            Launch(id=self.id, spec=spec, streams=Streams()), Fd(-1), None
        )

    def exec(self) -> list[Any]:
        """Begin to start one more process; return where the answer will be."""
        process = Process(args=["/bin/sleep"])
        launch = ExecLaunch(id=self.id, exec_id=new_id(), process=process, streams=Streams())
        answers: list[Any] = []
        self.service.exec(launch)._deliver(answers.append)
        return answers

    def finish(self) -> None:
        """Finish what was begun first."""
        self.forker.under_way.pop(0)()

    def end(self) -> None:
        """End the container's first process, and note it as the forker does."""
        self.programs[0].end()
        exits.conclude(self.world.tasks[self.id, ""], 137)

    def wait_for_removal(self) -> None:
        """Let time pass until nothing is to be done later."""

        def is_done() -> bool:
            waiting, self.forker.waiting = self.forker.waiting, []
            for action in waiting:
                action()
            return not self.forker.waiting

        session.eventually(is_done)

    def close(self) -> None:
        for task in self.world.tasks.values():
            task.close()
        for program in self.programs:
            try:
                program.end()
            except (ProcessLookupError, ChildProcessError):
                pass
            os.close(program.pidfd)
        open_cgroup(self.path).remove()
        self.world.listener.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def test_an_exec_under_way_does_not_keep_the_cgroup_of_a_container_that_is_gone(site: Site) -> None:
    site.start()
    site.finish()
    answers = site.exec()
    site.end()
    site.service.forget(site.id, "", remove=True)
    site.wait_for_removal()
    assert not open_cgroup(site.path).exists()
    site.finish()
    assert answers[0].code == Conflict.code
    assert site.world.tasks == {}
    assert list(site.world.state.load()) == []


def test_a_failed_start_leaves_no_cgroup_whoever_is_in_it(site: Site) -> None:
    site.start()
    site.programs[0].failure = Internal("the time for the clean-up was too short")
    site.finish()
    site.wait_for_removal()
    assert not open_cgroup(site.path).exists()
    assert list(site.world.state.unsettled()) == []


def test_a_container_starts_again_while_its_cgroup_is_being_removed(site: Site) -> None:
    site.start()
    site.finish()
    straggler = Program(site.path)
    site.programs.append(straggler)
    site.end()
    site.service.forget(site.id, "", remove=False)
    site.start()  # creates the cgroup, which the kernel refuses where a process is
    site.finish()
    site.wait_for_removal()
    assert open_cgroup(site.path).pids() == [site.programs[-1].pid]
