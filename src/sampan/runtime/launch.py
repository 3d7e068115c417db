"""Starting processes in containers: the library call behind the spawner and `sampan-runtime`.

`launch` and `launch_exec` fork once and return a `Launching`, which an event loop can poll; all
slow work is done by the forked supervisor (`supervise.py`) and by the container's init
(`init.py`). The container's first process is a child of the caller, who reaps it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from sampan.errors import SampanError
from sampan.linux import capabilities, namespaces, seccomp
from sampan.linux.cgroups.hierarchy import detect
from sampan.rpc import Fd
from sampan.runtime import exec as runtime_exec
from sampan.runtime import supervise
from sampan.spec.runtime import LinuxSeccomp, Process, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One container to start. Descriptors are lent: the caller keeps and closes them."""

    id: str
    spec: Spec
    root: int | str  # descriptor of a detached mount, or the path of a directory
    bundle: str = ""  # for hooks and the state; relative mount sources start here
    network: int | None = None  # descriptor of a network namespace to join
    pull_in: dict[str, int] = field(default_factory=dict)  # namespace type → pid to join it from
    state_dir: str = ""  # state.json is written here (and exec.fifo with `hold`); "" for none
    stdio: tuple[int, int, int] | None = None  # None: those of the caller; unused with a terminal
    console_socket: str = ""  # with a terminal: send its master there instead of returning it
    cgroup: str = ""  # path below each hierarchy; "" leaves the process in the caller's
    hold: bool = False  # OCI create: execute the program when `container.start` is called
    pass_fds: tuple[int, ...] = ()  # become 3, 4, … of the program
    listen_fds: bool = False  # set LISTEN_FDS and LISTEN_PID for pass_fds
    no_pivot: bool = False  # move the root over / instead of pivot_root(2)
    systemd_cgroup: bool = False  # recorded in the state, for the command line
    keep_seccomp: bool = False  # record the filter in the state, for later execs
    seccomp_cache: str = ""  # directory of compiled filters; "" keeps them in memory only


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """One more process for a running container. Descriptors are lent."""

    id: str
    process: Process
    pid: int  # the container's init, in the caller's pid namespace
    pidfd: int | None = None  # of that init; opened from `pid` without it
    cgroup: str = ""
    seccomp: LinuxSeccomp | None = None  # the filter of the container's own spec
    stdio: tuple[int, int, int] | None = None
    console_socket: str = ""
    pass_fds: tuple[int, ...] = ()
    listen_fds: bool = False
    bundle: str = ""  # for the agent of a seccomp filter with a listener
    seccomp_cache: str = ""


@dataclass(slots=True, kw_only=True)
class Launched:
    """A process that runs (or waits for `start`, with `hold`). The caller owns the descriptors."""

    pid: int
    pidfd: Fd
    master: Fd | None  # of the terminal, unless it went to a console socket
    warnings: list[str]
    cgroup: str
    started_at: int  # nanoseconds since the epoch


class Launching:
    """A start under way: poll `fileno()` for reading, then call `finish()`."""

    def __init__(self, sock: socket.socket, supervisor: int, cgroup: str, warnings: list[str]):
        self._sock, self._supervisor = sock, supervisor
        self._cgroup, self._warnings = cgroup, warnings

    def fileno(self) -> int:
        """Return a descriptor that is readable when `finish` will not wait."""
        return self._sock.fileno()

    def finish(self) -> Launched:
        """Return the running process, or raise what stopped it; waits if it must.

        Raises CommandNotFound, CommandNotExecutable or InvalidArgument for what the configuration
        breaks, Internal otherwise. After a failure no process, cgroup or state is left.
        """
        with self._sock:
            report, descriptors = supervise.receive_report(self._sock)
        _ending.update((self._supervisor, *report.helpers))
        reap_helpers()
        if isinstance(report, supervise.Failure):
            for fd in descriptors:
                os.close(fd)
            raise SampanError.by_code[report.code](report.message)
        pidfd, *master = descriptors
        return Launched(
            pid=report.pid,
            pidfd=Fd(pidfd),
            master=Fd(master[0]) if master else None,
            warnings=self._warnings + report.warnings,
            cgroup=self._cgroup,
            started_at=report.started_at,
        )

    def abandon(self) -> None:
        """Do not wait: the start goes on, and its result is lost."""
        self._sock.close()


def launch(request: LaunchRequest) -> Launching:
    """Begin to start a container; returns after one fork.

    The caller should have a single thread. Raises InvalidArgument for a broken seccomp profile.
    """
    linux = request.spec.linux
    compiled, warnings = _compile(linux.seccomp if linux else None, request.seccomp_cache)
    supervisor, sock = _fork(partial(supervise.supervise, request, compiled))
    return Launching(sock, supervisor, request.cgroup, warnings)


def launch_exec(request: ExecRequest) -> Launching:
    """Begin to start one more process in a running container; returns after one fork.

    `finish` raises what that of a launch does, and Conflict if the container is not running.
    """
    compiled, warnings = _compile(request.seccomp, request.seccomp_cache)
    supervisor, sock = _fork(partial(runtime_exec.supervise_exec, request, compiled))
    return Launching(sock, supervisor, request.cgroup, warnings)


def _fork(supervisor: Callable[[socket.socket], NoReturn]) -> tuple[int, socket.socket]:
    """Fork a supervisor; return its pid and our end of the socket on which it reports."""
    reap_helpers()
    detect()  # what is found out once per process must not be found out in every child
    capabilities.last()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if namespaces.is_single_threaded():
        pid, pidfd = namespaces.clone3(0)
    else:
        pid, pidfd = os.fork(), -1
    if pid == 0:
        ours.close()
        supervisor(theirs)
    theirs.close()
    if pidfd >= 0:
        os.close(pidfd)
    return pid, ours


def _compile(profile: LinuxSeccomp | None, cache: str) -> tuple[seccomp.Filter | None, list[str]]:
    return seccomp.compile_filter(profile, cache) if profile else (None, [])


_ending: set[int] = set()  # supervisors and helpers that have reported and are about to end


def reap_helpers() -> None:
    """Collect our own short-lived children that have ended; never waits for one.

    Called at every launch; a process that launches rarely may call it when it is idle.
    """
    for pid in list(_ending):
        with suppress(ChildProcessError):  # somebody who waits for all children was faster
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _ending.discard(pid)
