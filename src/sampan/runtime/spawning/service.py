"""The contract as the forker answers it: `Spawner`, method by method."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal as signals
import socket
import struct
import termios

from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.rpc import Fd, Pending
from sampan.runtime.roots.assembly import assemble
from sampan.runtime.roots.rebinding import rebind
from sampan.runtime.spawner import (
    Bind,
    ExecLaunch,
    Launch,
    Namespaces,
    Started,
    TaskStatus,
)
from sampan.runtime.spawning.children import Children
from sampan.runtime.spawning.forgetting import Forgetting
from sampan.runtime.spawning.lookup import container_id, known, running, told
from sampan.runtime.spawning.messages import Attached, Changed, Removed
from sampan.runtime.spawning.removals import Removals
from sampan.runtime.spawning.starts import Starts
from sampan.runtime.spawning.tasks import Key, Task
from sampan.runtime.starting import user_namespaces
from sampan.runtime.starting.launch import reap_later
from sampan.runtime.starting.preparing import make_sources as prepare_sources
from sampan.spec.runtime import LinuxIDMapping, LinuxResources

log = logging.getLogger(__name__)


class Service:
    """Answers the calls of the daemon, one at a time; what takes time is answered later."""

    def __init__(self, children: Children) -> None:
        self._children, self._world = children, children.world
        self._removals = Removals(self._world.state, children.later, self._container_in)
        self._forgetting = Forgetting(children, self._removals)
        self._starts = Starts(children, self._removals, self._forgetting)

    def resume(self) -> None:
        """Go on with what needs no call, in a process that has just become the forker."""
        self._removals.resume()

    def finish(self) -> None:
        """Bring to an end what is under way, before the spawner ends."""
        self._removals.finish()

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
                joined = self.user(container_id(of))
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
        return self._starts.start(launch, root, network, user)

    def exec(self, launch: ExecLaunch) -> Pending[Started]:
        """Start one more process; see `Spawner.exec`."""
        return self._starts.exec(launch)

    # --- streams -------------------------------------------------------------------------------

    def attach(self, id: str, exec_id: str, *, stdin: bool, stdout: bool, stderr: bool) -> Fd:
        """Return a socket that the keeper connects; see `Spawner.attach`."""
        container_id(id)
        if exec_id:
            container_id(exec_id)
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
            raise NotFound(f"{told((id, exec_id))} has no terminal")
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
            raise Conflict(f"{told((id, exec_id))} is not running") from error

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
        return self._starts.started(self._running((id, exec_id)), [])

    def wait(self, id: str, exec_id: str) -> TaskStatus | Pending[TaskStatus]:
        """Return the end of a task; see `Spawner.wait`."""
        task = known(self._world.tasks, (id, exec_id))
        if task.ended and task.drained:
            return task.status()
        answer: Pending[TaskStatus] = Pending()
        task.waiters.append(answer)
        return answer

    def edit(self, id: str, name: str, *, remove: list[str], add: list[str]) -> bool:
        """Change lines of a file; see `Spawner.edit`."""
        self._running((container_id(id), ""))
        return self._world.folders.edit(id, name, remove, add)

    def forget(self, id: str, exec_id: str, *, remove: bool) -> Pending[None]:
        """Drop an ended task; see `Spawner.forget`. Answers when the cgroup is gone."""
        container_id(id)
        key = (id, exec_id)
        task = self._world.tasks.get(key)
        if self._starts.is_under_way(key) or (task and not task.ended):
            raise Conflict(f"{told(key)} is running")
        answer: Pending[None] = Pending()
        if task is not None:
            self._forgetting.drop(key, answer)
        else:
            if exec_id or remove:
                # Clients of a start that never came.
                self._children.tell(Removed(id=id, exec_id=exec_id))
            self._removals.answer_when_gone(id, answer)
        if remove and not exec_id:
            self._world.folders.remove(id)
        return answer

    def _running(self, key: Key) -> Task:
        return running(self._world.tasks, key)

    def _container_in(self, cgroup: str) -> str:
        """Return the container that runs, or is about to run, in a cgroup; "" if there is none."""
        for (container, exec_id), task in self._world.tasks.items():
            if task.record.cgroup == cgroup and not exec_id and not task.ended:
                return container
        return self._starts.container_in(cgroup)
