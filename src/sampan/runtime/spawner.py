"""The contract of the spawner: the process that forks containers and keeps their streams.

The implementation lives beside it: `forker.py` starts processes, `keeper.py` relays their streams
and collects their exit codes. See docs/explanation/architecture/spawner.md.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from sampan.rpc import Fd
from sampan.spec.runtime import LinuxIDMapping, LinuxResources, Process, Spec


class Streams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the standard streams of a process are connected."""

    terminal: bool = False
    open_stdin: bool = False  # false: stdin is /dev/null
    stdin_once: bool = False  # close stdin when the first attached client closes its side
    rows: int = 0
    columns: int = 0
    log_driver: Literal["json-file", "local", "none"] = "none"
    log_options: dict[str, str] = {}  # max-size, max-file, compress
    log_attributes: dict[str, str] = {}  # stored with each line (labels, env, tag)


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """More about the source of a bind mount than the specification can say."""

    destination: str  # as the specification writes it
    subpath: str = ""  # the part of the source that is bound; it may lead nowhere else
    tree: Fd | None = None  # a detached mount that is bound, instead of what a path names
    strict: bool = False  # the path has been named by a stranger: no symbolic link in it


class Launch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One container to start."""

    id: str
    spec: Spec  # root.path is ignored: the root file system comes as a descriptor
    streams: Streams
    files: dict[str, bytes] = {}  # name → content, written to <root>/containers/<id>/ before start
    make_sources: list[str] = []  # folders of the host that bind mounts need; made if missing
    sources: list[Source] = []
    pull_in: dict[str, int] = {}  # namespace type → pid of a process whose namespace is joined
    user: str | None = None  # "name", "uid:group" …, resolved in the root instead of the spec's
    groups: list[str] = []  # additional groups by name or id, resolved with `user`


class ExecLaunch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One more process in a running container."""

    id: str
    exec_id: str
    process: Process
    streams: Streams
    user: str | None = None  # as in Launch; HOME is set from it if the environment has none
    groups: list[str] = []


class Bind(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One bind mount, made outside of a start."""

    source: str  # a path of the host
    destination: str  # an absolute path in the container
    read_only: bool = False
    copy_up: bool = False  # an empty source is filled with what the root has there
    subpath: str = ""  # these three as in Source
    tree: Fd | None = None
    strict: bool = False


class Started(msgspec.Struct, kw_only=True):
    """A process that runs."""

    pid: int
    started_at: int  # nanoseconds since the epoch
    pidfd: Fd  # readable when the process has ended
    oom: Fd | None = None  # readable when the memory limit killed something in the container
    cgroup: str = ""  # path below each hierarchy, for statistics
    warnings: list[str] = []  # what was asked for and could not be done here


class TaskStatus(msgspec.Struct, kw_only=True):
    """What the spawner and the kernel know of a container or an exec."""

    id: str
    exec_id: str = ""
    state: Literal["running", "paused", "stopped"]
    pid: int
    started_at: int
    cgroup: str = ""
    finished_at: int = 0
    exit_code: int | None = None  # None while it runs, or if nobody could learn it (see `lost`)
    oom_killed: bool = False
    lost: str = ""  # a sentence: what a crash of the spawner cost this task


class Namespaces(msgspec.Struct, kw_only=True):
    """Namespaces for a container that is about to start."""

    user: Fd
    network: Fd | None = None


class Spawner(Protocol):
    """Starts containers and execs, holds their streams, writes their logs, knows their ends."""

    def namespaces(
        self,
        uids: list[LinuxIDMapping],
        gids: list[LinuxIDMapping],
        *,
        network: bool,
        of: str = "",
    ) -> Namespaces:
        """Return a new user namespace with these maps, and a network that belongs to it.

        With `of`, it is the user namespace of that running container. InvalidArgument for maps
        that the kernel refuses.
        """

    def start(
        self, launch: Launch, root: Fd, network: Fd | None = None, user: Fd | None = None
    ) -> Started:
        """Start a container on the detached mount `root`, in the network namespace `network`.

        With `user`, in that user namespace; `launch.spec` has its maps.
        Answers when the program has been executed. Raises CommandNotFound, CommandNotExecutable,
        InvalidArgument for what the container's own configuration breaks; nothing is left behind.
        """

    def exec(self, launch: ExecLaunch) -> Started:
        """Start one more process in a running container; same errors as `start`."""

    def attach(self, id: str, exec_id: str = "", *, stdin: bool, stdout: bool, stderr: bool) -> Fd:
        """Return a stream socket connected to the streams, before or after the start.

        What the process writes arrives as Docker's frames (raw for a terminal); what is sent
        goes to stdin, shutdown(SHUT_WR) is end of file. The socket is closed after the last
        output of the process. Any number of clients may attach.
        """

    def root(self, id: str) -> Fd:
        """Return a descriptor (O_PATH) of a running container's root, for look-ups and copies."""

    def assemble(self, root: Fd, binds: list[Bind], make_sources: list[str]) -> Fd:
        """Return a copy of the detached mount `root` with its bind mounts, for look-ups and copies.

        For a container that does not run. InvalidArgument if a mount cannot be made.
        """

    def rebind(self, id: str, bind: Bind) -> None:
        """Have a running container see what is at the source of a bound file now.

        InvalidArgument if that is no file, or something else is mounted in its place by now.
        """

    def network(self, id: str) -> Fd:
        """Return a descriptor of a running container's network namespace."""

    def user(self, id: str) -> Fd:
        """Return a descriptor of a running container's user namespace."""

    def edit(self, id: str, name: str, *, remove: list[str], add: list[str]) -> bool:
        """Change lines of one of the container's `files`, in place, so that it sees them.

        `add` goes where the first line of `remove` was, else to the end. Other lines stay as the
        user may have edited them. If a line of `remove` is missing, does nothing and returns False.
        """

    def resize(self, id: str, exec_id: str = "", *, rows: int, columns: int) -> None:
        """Set the size of the terminal; NotFound if the task has none."""

    def signal(self, id: str, exec_id: str = "", *, signal: int, all: bool = False) -> None:
        """Send a signal to the first process, or with `all` to every process of the container."""

    def freeze(self, id: str, *, frozen: bool) -> None:
        """Pause or resume every process of the container."""

    def update(self, id: str, resources: LinuxResources) -> None:
        """Change limits of a running container."""

    def tasks(self, id: str = "") -> list[TaskStatus]:
        """Return what is known of one container (with its execs), or of all."""

    def pidfd(self, id: str, exec_id: str = "") -> Started:
        """Return fresh descriptors of a running task, for a daemon that was restarted."""

    def wait(self, id: str, exec_id: str = "") -> TaskStatus:
        """Return the end of a task, after its last output has been written to log and clients.

        Called when the pidfd has become readable; waits at most two seconds for stragglers that
        hold the streams open.
        """

    def forget(self, id: str, exec_id: str = "", *, remove: bool = False) -> None:
        """Drop an ended task with its cgroup and streams.

        `remove` deletes the container's folder, with the logs.
        """
