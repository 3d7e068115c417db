"""Starts of containers and of more processes in them, from the call to the answer."""

from __future__ import annotations

import os
import signal as signals
from contextlib import ExitStack

import msgspec

from sampan.errors import Conflict
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.process import start_time
from sampan.logs.driver import validate_options
from sampan.rpc import Fd, Pending
from sampan.runtime.spawner import ExecLaunch, Launch, Started, Streams
from sampan.runtime.spawning.children import Children
from sampan.runtime.spawning.filters import Filters
from sampan.runtime.spawning.forgetting import Forgetting
from sampan.runtime.spawning.lookup import container_id, running, told
from sampan.runtime.spawning.messages import Removed
from sampan.runtime.spawning.pipes import Pipes, open_pipes
from sampan.runtime.spawning.removals import Removals
from sampan.runtime.spawning.tasks import Key, Task, TaskRecord, boot_id
from sampan.runtime.spawning.world import Launching
from sampan.runtime.starting.launch import ExecRequest, LaunchRequest
from sampan.runtime.starting.preparing import bind_source, prepared
from sampan.runtime.starting.preparing import make_sources as prepare_sources

CGROUPS = "/sampan"  # where a container's cgroup is unless its spec says another place


class Starts:
    """What is being started; each is answered when its program runs."""

    def __init__(self, children: Children, removals: Removals, forgetting: Forgetting) -> None:
        self._children, self._world = children, children.world
        self._removals, self._forgetting = removals, forgetting
        self._filters = Filters(self._world.state)
        self._starting: dict[Key, str] = {}  # with the cgroup

    def is_under_way(self, key: Key) -> bool:
        """Tell whether a task is being started."""
        return key in self._starting

    def container_in(self, cgroup: str) -> str:
        """Return the container that is about to run in a cgroup; "" if there is none.

        An exec does not count: it has no business in the cgroup of a container that has ended.
        """
        for (container, exec_id), path in self._starting.items():
            if path == cgroup and not exec_id:
                return container
        return ""

    def start(
        self, launch: Launch, root: Fd, network: Fd | None, user: Fd | None = None
    ) -> Pending[Started]:
        """Start a container; see `Spawner.start`."""
        key = (container_id(launch.id), "")
        self._refuse_second(key)
        validate_options(launch.streams.log_driver, launch.streams.log_options)
        process = prepared(launch.spec.process, launch.streams, self._world.limits)
        linux = launch.spec.linux
        cgroup = (linux.cgroups_path if linux else "") or f"{CGROUPS}/{launch.id}"
        maps = linux.uid_mappings if linux else []
        owner = next((each.host_id for each in maps if each.container_id == 0), 0)
        with ExitStack() as undo:
            self._world.folders.make(launch.id, launch.files, owner)
            self._world.make_log(launch.id, launch.streams)
            prepare_sources(launch.make_sources, owner)
            undo.callback(self._removals.remove, launch.id, cgroup)
            self._removals.begin_again(launch.id)
            self._world.state.intend(launch.id, cgroup)
            pipes = open_pipes(launch.streams)
            undo.callback(pipes.close)
            request = LaunchRequest(
                id=launch.id,
                spec=msgspec.structs.replace(launch.spec, process=process),
                root=root.number,
                bundle=str(self._world.folders.path(launch.id)),
                network=network.number if network else None,
                user_namespace=user.number if user else None,
                sources={each.destination: bind_source(each) for each in launch.sources},
                pull_in=launch.pull_in,
                donors={pid: self._donor(pid) for pid in launch.pull_in.values()},
                stdio=pipes.stdio(),
                cgroup=cgroup,
                seccomp_cache=self._world.seccomp_cache,
                user=launch.user,
                groups=launch.groups,
            )
            launching = self._world.launcher.start(request)
            undo.pop_all()
        record = self._record(launch.id, "", launch.streams, pipes)
        record.shares_pids = _shares_pids(launch)
        if linux and linux.seccomp:
            record.seccomp = self._filters.keep(linux.seccomp)
        return self._await(launching, record, pipes, cgroup)

    def exec(self, launch: ExecLaunch) -> Pending[Started]:
        """Start one more process; see `Spawner.exec`."""
        key = (container_id(launch.id), container_id(launch.exec_id))
        self._refuse_second(key)
        container = running(self._world.tasks, (launch.id, ""))
        process = prepared(launch.process, launch.streams, self._world.limits)
        pipes = open_pipes(launch.streams)
        with ExitStack() as undo:
            undo.callback(pipes.close)
            launching = self._world.launcher.exec(
                ExecRequest(
                    id=launch.id,
                    process=process,
                    pid=container.record.pid,
                    pidfd=container.pidfd,
                    cgroup=container.record.cgroup,
                    seccomp=self._filters.get(container.record.seccomp),
                    stdio=pipes.stdio(),
                    seccomp_cache=self._world.seccomp_cache,
                    user=launch.user,
                    groups=launch.groups,
                )
            )
            undo.pop_all()
        record = self._record(launch.id, launch.exec_id, launch.streams, pipes)
        return self._await(launching, record, pipes, container.record.cgroup)

    def _donor(self, pid: int) -> int:
        """Return the pidfd of a container of ours: its number alone may be anybody's by now."""
        for task in self._world.tasks.values():
            if task.record.pid == pid and not task.ended:
                return task.pidfd
        raise Conflict("cannot join a namespace of a non running container")

    def _refuse_second(self, key: Key) -> None:
        task = self._world.tasks.get(key)
        if key in self._starting or (task and not task.ended):
            raise Conflict(f"{told(key)} is already running")
        if task:
            self._forgetting.drop(key)

    def _record(self, id: str, exec_id: str, streams: Streams, pipes: Pipes) -> TaskRecord:
        logged = not exec_id and streams.log_driver != "none"
        return TaskRecord(
            id=id,
            exec_id=exec_id,
            pid=0,
            start_time=0,
            boot_id=boot_id(),
            started_at=0,
            streams=streams,
            pipes=pipes.inodes,
            slot=self._world.free_slot() if logged else -1,
        )

    def _await(
        self, launching: Launching, record: TaskRecord, pipes: Pipes, cgroup: str
    ) -> Pending[Started]:
        """Answer when the program runs."""
        answer: Pending[Started] = Pending()
        self._starting[record.key] = cgroup
        pipes.close_theirs()

        def finish() -> None:
            del self._starting[record.key]
            try:
                started = self._finish(launching, record, pipes)
            except Exception as error:  # noqa: BLE001 - the caller gets every failure
                pipes.close()
                self._children.tell(Removed(id=record.id, exec_id=record.exec_id))
                if record.exec_id:
                    self._world.state.remove(record.key)
                else:
                    self._removals.remove(record.id, cgroup)
                answer.fail(error)
            else:
                answer.resolve(started)

        self._children.when_ready(launching, finish)
        return answer

    def _finish(self, launching: Launching, record: TaskRecord, pipes: Pipes) -> Started:
        launched = launching.finish()
        record.pid, record.started_at = launched.pid, launched.started_at
        record.cgroup = launched.cgroup
        try:
            record.start_time = start_time(launched.pid)
        except FileNotFoundError:
            pass  # reaped by someone else: not ours to check
        task = Task(record, pidfd=launched.pidfd.detach())
        if launched.master:
            task.master = launched.master.detach()
            os.set_blocking(task.master, False)
        elif pipes.ours:
            task.stdin, task.stdout, task.stderr = pipes.ours
            pipes.ours = []
        try:
            self._write_down(record)
        except (OSError, Conflict):
            _undo(task)
            raise
        self._children.add(task)
        return self.started(task, launched.warnings)

    def _write_down(self, record: TaskRecord) -> None:
        if record.exec_id and (record.id, "") not in self._world.tasks:
            # Its container was forgotten meanwhile: nobody would look for it.
            raise Conflict(f"{told((record.id, ''))} is not running")
        self._world.state.save(record)
        if not record.exec_id:
            self._world.state.settle(record.id)

    def started(self, task: Task, warnings: list[str]) -> Started:
        oom = -1
        record = task.record
        if not record.exec_id and record.cgroup and not task.ended:
            try:
                oom = open_cgroup(record.cgroup).oom_event()
            except OSError as error:
                warnings = [*warnings, f"no out-of-memory events: {error.strerror}"]
        return Started(
            pid=record.pid,
            started_at=record.started_at,
            pidfd=Fd(os.dup(task.pidfd)),
            oom=Fd(oom) if oom >= 0 else None,
            cgroup=record.cgroup,
            warnings=warnings,
        )


def _undo(task: Task) -> None:
    """End a process of which no record could be kept."""
    signals.pidfd_send_signal(task.pidfd, signals.SIGKILL)
    os.waitid(os.P_PIDFD, task.pidfd, os.WEXITED)
    task.close()


def _shares_pids(launch: Launch) -> bool:
    """Tell whether a container has no PID namespace of its own, with which its processes end."""
    spaces = launch.spec.linux.namespaces if launch.spec.linux else []
    has_own = any(each.type == "pid" and not each.path for each in spaces)
    return not has_own or "pid" in launch.pull_in
