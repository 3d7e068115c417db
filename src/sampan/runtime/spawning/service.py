"""The contract as the forker answers it: `Spawner`, method by method."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import select
import signal as signals
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Protocol

import msgspec

from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.process import start_time
from sampan.logs.driver import validate_options
from sampan.rpc import Fd, Pending
from sampan.runtime.roots.assembly import assemble
from sampan.runtime.roots.rebinding import rebind
from sampan.runtime.spawner import (
    Bind,
    ExecLaunch,
    Launch,
    Namespaces,
    Started,
    Streams,
    TaskStatus,
)
from sampan.runtime.spawning.messages import Attached, Changed, Message, Removed
from sampan.runtime.spawning.pipes import Pipes, open_pipes
from sampan.runtime.spawning.tasks import Key, Task, TaskRecord, boot_id
from sampan.runtime.spawning.world import Launching, World
from sampan.runtime.starting import user_namespaces
from sampan.runtime.starting.launch import ExecRequest, LaunchRequest, reap_later
from sampan.runtime.starting.preparing import bind_source, prepared
from sampan.runtime.starting.preparing import make_sources as prepare_sources
from sampan.spec.names import ID, short_id
from sampan.spec.runtime import LinuxIDMapping, LinuxResources, LinuxSeccomp

log = logging.getLogger(__name__)

CGROUPS = "/sampan"  # where a container's cgroup is unless its spec says another place


class Children(Protocol):
    """Who has the containers as children, and tells the keeper of them."""

    @property
    def world(self) -> World: ...

    def tell(self, message: Message) -> None:
        """Tell the keeper."""

    def when_ready(self, launching: Launching, action: Callable[[], None]) -> None:
        """Call `action` when `launching` can be finished without waiting."""

    def add(self, task: Task) -> None:
        """Take a task that runs into the table, and give it to the keeper."""

    def forget(self, key: Key) -> Task | None:
        """Take a task out of the table; its descriptors are still open."""

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` once, after `seconds`."""


class Service:
    """Answers the calls of the daemon, one at a time; what takes time is answered later."""

    def __init__(self, children: Children) -> None:
        self._children, self._world = children, children.world
        self._starting: dict[Key, str] = {}  # with the cgroup
        self._filters: dict[str, LinuxSeccomp] = {}  # by digest: containers share them

    # --- starts --------------------------------------------------------------------------------

    def namespaces(
        self,
        uids: list[LinuxIDMapping],
        gids: list[LinuxIDMapping],
        *,
        network: bool,
        of: str = "",
    ) -> Namespaces:
        """Return namespaces for a container; see `Spawner.namespaces`."""
        try:
            if of:
                joined = self.user(_container(of))
                made = user_namespaces.Made(joined.detach())
                if network:
                    made.network = user_namespaces.make_network(made.user, reap_later)
            else:
                made = user_namespaces.make(uids, gids, network=network, ended=reap_later)
        except OSError as error:  # user.max_user_namespaces, or a kernel without them
            reason = f"{error.strerror}: see sysctl user.max_user_namespaces"
            raise Unsupported(f"unable to make a user namespace: {reason}") from error
        return Namespaces(
            user=Fd(made.user), network=Fd(made.network) if made.network >= 0 else None
        )

    def start(
        self, launch: Launch, root: Fd, network: Fd | None, user: Fd | None = None
    ) -> Pending[Started]:
        """Start a container; see `Spawner.start`."""
        key = (_container(launch.id), "")
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
            self._world.state.intend(launch.id, cgroup)
            undo.callback(self._world.state.remove, key)
            pipes = open_pipes(launch.streams)
            undo.callback(pipes.close)
            launching = self._world.launcher.start(
                LaunchRequest(
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
            )
            undo.pop_all()
        record = self._record(launch.id, "", launch.streams, pipes)
        record.shares_pids = not any(
            each.type == "pid" and not each.path for each in (linux.namespaces if linux else [])
        ) or ("pid" in launch.pull_in)
        if linux and linux.seccomp:
            record.seccomp = self._keep_filter(linux.seccomp)
        return self._await(launching, record, pipes, cgroup)

    def exec(self, launch: ExecLaunch) -> Pending[Started]:
        """Start one more process; see `Spawner.exec`."""
        key = (_container(launch.id), _container(launch.exec_id))
        self._refuse_second(key)
        container = self._running((launch.id, ""))
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
                    seccomp=self._filter(container.record.seccomp),
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
            raise Conflict(f"{_name(key)} is already running")
        if task:
            self._drop(key)

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
                self._world.state.remove(record.key)
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
            self._world.state.save(record)
            if not record.exec_id:
                self._world.state.settle(record.id)
        except OSError:
            _undo(task)
            raise
        self._children.add(task)
        return self._started(task, launched.warnings)

    def _started(self, task: Task, warnings: list[str]) -> Started:
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

    def _keep_filter(self, seccomp: LinuxSeccomp) -> str:
        document = msgspec.json.encode(seccomp)
        digest = hashlib.sha256(document).hexdigest()
        if digest not in self._filters:
            self._world.state.save_seccomp(digest, document)
            self._filters[digest] = seccomp
        return digest

    def _filter(self, digest: str) -> LinuxSeccomp | None:
        if not digest:
            return None
        if digest not in self._filters:
            document = self._world.state.load_seccomp(digest)
            self._filters[digest] = msgspec.json.decode(document, type=LinuxSeccomp)
        return self._filters[digest]

    # --- streams -------------------------------------------------------------------------------

    def attach(self, id: str, exec_id: str, *, stdin: bool, stdout: bool, stderr: bool) -> Fd:
        """Return a socket that the keeper connects; see `Spawner.attach`."""
        _container(id)
        if exec_id:
            _container(exec_id)
        ours, theirs = socket.socketpair()
        with theirs:
            self._children.tell(
                Attached(
                    id=id,
                    exec_id=exec_id,
                    sock=Fd(theirs.fileno()),
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                )
            )
        return Fd(ours.detach())

    def root(self, id: str) -> Fd:
        """Return a container's root; see `Spawner.root`."""
        return self._open_of(id, "root", os.O_PATH | os.O_DIRECTORY)

    def assemble(self, root: Fd, binds: list[Bind], make_sources: list[str]) -> Fd:
        """Return a root with its bind mounts; see `Spawner.assemble`."""
        prepare_sources(make_sources)
        return Fd(assemble(root.number, binds, str(self._world.run_root)))

    def rebind(self, id: str, bind: Bind) -> None:
        """Bind a file again; see `Spawner.rebind`."""
        rebind(self._running((id, "")).record.pid, bind)

    def network(self, id: str) -> Fd:
        """Return a container's network namespace; see `Spawner.network`."""
        return self._open_of(id, "ns/net", os.O_RDONLY)

    def user(self, id: str) -> Fd:
        """Return a container's user namespace; see `Spawner.user`."""
        return self._open_of(id, "ns/user", os.O_RDONLY)

    def _open_of(self, id: str, name: str, flags: int) -> Fd:
        """Open a file of /proc/PID of a running container."""
        task = self._running((id, ""))
        try:
            opened = Fd(os.open(f"/proc/{task.record.pid}/{name}", flags | os.O_CLOEXEC))
        except OSError as error:
            raise Conflict(f"container {id} is not running") from error
        if select.select([task.pidfd], [], [], 0)[0]:  # the pid may be somebody else's by now
            opened.close()
            raise Conflict(f"container {id} is not running")
        return opened

    def resize(self, id: str, exec_id: str, *, rows: int, columns: int) -> None:
        """Set the size of a terminal; see `Spawner.resize`."""
        task = self._running((id, exec_id))
        if task.master < 0:
            raise NotFound(f"{_name((id, exec_id))} has no terminal")
        if not (0 <= rows < 1 << 16 and 0 <= columns < 1 << 16):
            raise InvalidArgument("the size of a terminal is at most 65535 rows and columns")
        fcntl.ioctl(task.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    # --- control -------------------------------------------------------------------------------

    def signal(self, id: str, exec_id: str, *, signal: int, all: bool) -> None:
        """Send a signal; see `Spawner.signal`."""
        task = self._running((id, exec_id))
        if not 0 < signal < signals.NSIG:
            raise InvalidArgument(f"Invalid signal: {signal}")
        try:
            if not all or exec_id:
                signals.pidfd_send_signal(task.pidfd, signal)
            elif signal == signals.SIGKILL:
                open_cgroup(task.record.cgroup).kill()
            else:
                open_cgroup(task.record.cgroup).signal(signal)
        except ProcessLookupError as error:
            raise Conflict(f"{_name((id, exec_id))} is not running") from error

    def freeze(self, id: str, *, frozen: bool) -> None:
        """Pause or resume; see `Spawner.freeze`."""
        task = self._running((id, ""))
        cgroup = open_cgroup(task.record.cgroup)
        if frozen:
            cgroup.freeze()
        else:
            cgroup.thaw()
        task.record.frozen = frozen
        self._world.state.save_if_possible(task.record)
        self._children.tell(Changed(record=task.record))

    def update(self, id: str, resources: LinuxResources) -> None:
        """Change limits; see `Spawner.update`."""
        task = self._running((id, ""))
        try:
            open_cgroup(task.record.cgroup).update(resources)
        except OSError as error:
            reason = f"{error.filename or 'cgroup'}: {error.strerror}"
            raise InvalidArgument(f"Cannot update container {id}: {reason}") from error

    # --- knowledge -----------------------------------------------------------------------------

    def tasks(self, id: str) -> list[TaskStatus]:
        """Return what is known; see `Spawner.tasks`."""
        tasks = self._world.tasks.values()
        return [task.status() for task in tasks if not id or task.record.id == id]

    def pidfd(self, id: str, exec_id: str) -> Started:
        """Return fresh descriptors; see `Spawner.pidfd`."""
        return self._started(self._running((id, exec_id)), [])

    def wait(self, id: str, exec_id: str) -> TaskStatus | Pending[TaskStatus]:
        """Return the end of a task; see `Spawner.wait`."""
        task = self._known((id, exec_id))
        if task.ended and task.drained:
            return task.status()
        answer: Pending[TaskStatus] = Pending()
        task.waiters.append(answer)
        return answer

    def edit(self, id: str, name: str, *, remove: list[str], add: list[str]) -> bool:
        """Change lines of a file; see `Spawner.edit`."""
        self._running((_container(id), ""))
        return self._world.folders.edit(id, name, remove, add)

    def forget(self, id: str, exec_id: str, *, remove: bool) -> Pending[None]:
        """Drop an ended task; see `Spawner.forget`. Answers when the cgroup is gone."""
        _container(id)
        key = (id, exec_id)
        task = self._world.tasks.get(key)
        if key in self._starting or (task and not task.ended):
            raise Conflict(f"{_name(key)} is running")
        answer: Pending[None] = Pending()
        if task is not None:
            self._drop(key, answer)
        elif exec_id or remove:
            # Clients of a start that never came.
            self._children.tell(Removed(id=id, exec_id=exec_id))
        if remove and not exec_id:
            self._world.folders.remove(id)
        if task is None or exec_id or not task.record.cgroup:
            answer.resolve(None)
        return answer

    def _drop(self, key: Key, answer: Pending[None] | None = None) -> None:
        """Forget a task, and with a container its execs and its cgroup; then answer."""
        keys = [key] if key[1] else [each for each in self._world.tasks if each[0] == key[0]]
        cgroup = "" if key[1] else self._world.tasks[key].record.cgroup
        for each in keys:
            task = self._children.forget(each)
            if task is None:
                continue
            self._children.tell(Removed(id=each[0], exec_id=each[1]))
            for waiter in task.waiters:
                waiter.resolve(task.status())
            task.close()
        self._world.state.remove(key)
        if cgroup:
            self._remove_cgroup(cgroup, answer)

    def _remove_cgroup(self, path: str, answer: Pending[None] | None, tries: int = 200) -> None:
        """Remove a cgroup, later again if dying processes keep it busy."""
        used = {task.record.cgroup for task in self._world.tasks.values()}
        if path not in used and path not in self._starting.values():  # or it was started again
            cgroup = open_cgroup(path)
            try:
                cgroup.remove(0)
            except OSError as error:
                if tries:
                    cgroup.kill()
                    again = partial(self._remove_cgroup, path, answer, tries - 1)
                    self._children.later(0.01, again)
                    return
                log.warning("cgroup %s stays: %s", path, error)
        if answer:
            answer.resolve(None)

    def _known(self, key: Key) -> Task:
        task = self._world.tasks.get(key)
        if task is None:
            what = "exec instance" if key[1] else "container"
            raise NotFound(f"No such {what}: {key[1] or key[0]}")
        return task

    def _running(self, key: Key) -> Task:
        task = self._known(key)
        if task.ended:
            raise Conflict(f"{_name(key)} is not running")
        return task


def _undo(task: Task) -> None:
    """End a process of which no record could be kept."""
    signals.pidfd_send_signal(task.pidfd, signals.SIGKILL)
    os.waitid(os.P_PIDFD, task.pidfd, os.WEXITED)
    task.close()
    if not task.record.exec_id:
        open_cgroup(task.record.cgroup).remove()


def _container(id: str) -> str:
    if not ID.fullmatch(id):
        raise InvalidArgument(f"invalid id: {id[:80]!r}")
    return id


def _name(key: Key) -> str:
    return f"exec {short_id(key[1])}" if key[1] else f"container {key[0]}"
