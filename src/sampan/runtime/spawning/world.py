"""What both halves of the spawner share, and what one leaves to the other."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sampan.logs.files import LogWriter, open_writer
from sampan.rpc import Contract
from sampan.runtime.folder import Folders
from sampan.runtime.spawner import Spawner, Streams
from sampan.runtime.spawning.journal import NO_SLOT, SLOTS, Journal
from sampan.runtime.spawning.messages import Attached
from sampan.runtime.spawning.tasks import Key, StateFiles, Task, TaskRecord
from sampan.runtime.starting.launch import (
    ExecRequest,
    Launched,
    LaunchRequest,
    launch,
    launch_exec,
)

log = logging.getLogger(__name__)


class Launching(Protocol):
    """A start under way, as `sampan.runtime.starting.launch` returns it."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when `finish` will not wait."""

    def finish(self) -> Launched:
        """Return the running process, or raise what stopped it."""


@dataclass(frozen=True, slots=True)
class NextForker:
    """This process is to be the forker, child of the keeper that the pidfd `keeper` names."""

    channel: socket.socket
    keeper: int


@dataclass(frozen=True, slots=True)
class NextKeeper:
    """This process is to be the keeper of a forker; `attached` are clients it must hear of."""

    channel: socket.socket
    forker: int
    attached: Sequence[Attached]


@dataclass(frozen=True, slots=True)
class Launcher:
    """How processes are started; the tests put another in place."""

    start: Callable[[LaunchRequest], Launching] = launch
    exec: Callable[[ExecRequest], Launching] = launch_exec


@dataclass(slots=True)
class World:
    """One spawner: its places, its socket, its tasks."""

    data_root: Path
    run_root: Path
    uid: int  # who may connect, besides root
    gid: int  # who may read logs
    listener: socket.socket
    lock: int  # flock(2) as long as the spawner lives
    launcher: Launcher = field(default_factory=Launcher)
    tasks: dict[Key, Task] = field(default_factory=dict)
    limits: tuple[int, int] = (1024, 4096)  # RLIMIT_NOFILE that containers get
    contract: Contract = field(default_factory=lambda: Contract(Spawner))
    journal: Journal = field(init=False)
    state: StateFiles = field(init=False)
    folders: Folders = field(init=False)

    def __post_init__(self) -> None:
        self.journal = Journal(self.run_root / "journal")
        self.state = StateFiles(self.run_root / "runtime")
        os.makedirs(self.seccomp_cache, 0o700, exist_ok=True)
        self.folders = Folders(self.data_root / "containers", self.gid)

    @property
    def seccomp_cache(self) -> str:
        """Where compiled filters are, so that a new forker need not compile them again."""
        return f"{self.run_root}/filters"

    def open_log(self, record: TaskRecord) -> LogWriter | None:
        """Open the log of a task for writing; raises OSError, InvalidArgument."""
        return None if record.exec_id else self._open_log(record.id, record.streams)

    def make_log(self, container: str, streams: Streams) -> None:
        """Have the file of a log before the start is answered.

        Who follows the log at once holds it then, even if the container is removed meanwhile.
        """
        with suppress(OSError):  # the keeper, which writes it, will say why
            if writer := self._open_log(container, streams):
                writer.close()

    def _open_log(self, container: str, streams: Streams) -> LogWriter | None:
        if streams.log_driver == "none":
            return None
        return open_writer(
            self.folders.path(container),
            container,
            streams.log_driver,
            streams.log_options,
            streams.log_attributes,
            self.gid,
        )

    def free_slot(self) -> int:
        """Return a place in the journal that no task uses: its stdout; stderr is the next."""
        used = {task.record.slot for task in self.tasks.values()}
        for slot in range(0, SLOTS, 2):
            if slot not in used:
                return slot
        return NO_SLOT  # so many logs at once: their last bytes are not safe from a crash

    def running(self) -> list[Task]:
        """Return the tasks that have not ended."""
        return [task for task in self.tasks.values() if not task.ended]


def half_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of the connection between keeper and forker."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def fork() -> int:
    """Fork; where the kernel has no room for a process, wait until it has."""
    while True:
        try:
            return os.fork()
        except OSError as error:
            log.error("cannot fork: %s", error.strerror)
            time.sleep(0.2)


def quiet_signals() -> None:
    """Take the signal handling of the other half off this process."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def ignore(*_: Any) -> None:
    """A signal handler that does nothing: the wake-up descriptor tells the loop."""


def children() -> list[int]:
    """Return the pids of our children."""
    own = os.getpid()
    try:
        text = Path(f"/proc/self/task/{own}/children").read_text()
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return []
    return [int(pid) for pid in text.split()]


def cgroups_of(pid: int) -> str:
    """Return the lines of /proc/PID/cgroup; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
