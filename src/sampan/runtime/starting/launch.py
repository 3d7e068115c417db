"""Starting processes in containers: the library call behind the spawner and `sampan-runtime`.

`launch` and `launch_exec` fork once and return a `Launching`, which an event loop can poll. The
container's first process is a child of the caller, who reaps it.

The usual container is cloned directly into its namespaces and prepares itself (`direct.py`,
`direct_exec.py`); where
somebody must stay outside meanwhile - for id maps, namespaces to be joined first, hooks of the
host, a console socket, `hold` - the fork is a supervisor that clones init (`supervise.py`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn, Protocol

from sampan.errors import SampanError
from sampan.linux import capabilities, namespaces, seccomp
from sampan.linux.cgroups.hierarchy import detect
from sampan.rpc import Fd
from sampan.runtime.starting import direct, direct_exec, direct_user, supervise
from sampan.runtime.starting import exec as runtime_exec
from sampan.runtime.starting.progress import as_sampan_error
from sampan.runtime.starting.requests import ExecRequest, Launched, LaunchRequest
from sampan.spec.runtime import LinuxSeccomp

__all__ = [
    "ExecRequest",
    "LaunchRequest",
    "Launched",
    "Launching",
    "launch",
    "launch_exec",
    "reap_helpers",
    "reap_later",
]


class Launching(Protocol):
    """A start under way: poll `fileno()` for reading, then call `finish()`."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when `finish` will not wait."""

    def finish(self) -> Launched:
        """Return the running process, or raise what stopped it; waits if it must.

        Raises CommandNotFound, CommandNotExecutable or InvalidArgument for what the configuration
        breaks, Internal otherwise. After a failure no process, cgroup or state is left.
        """


class Supervised:
    """A start that a supervisor carries out."""

    def __init__(self, sock: socket.socket, supervisor: int, cgroup: str, warnings: list[str]):
        self._sock, self._supervisor = sock, supervisor
        self._cgroup, self._warnings = cgroup, warnings

    def fileno(self) -> int:
        """See `Launching.fileno`."""
        return self._sock.fileno()

    def finish(self) -> Launched:
        """See `Launching.finish`."""
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


def launch(request: LaunchRequest) -> Launching:
    """Begin to start a container; returns after one fork.

    The caller should have a single thread. Raises InvalidArgument for a broken seccomp profile.
    """
    linux = request.spec.linux
    compiled, warnings = _compile(linux.seccomp if linux else None, request.seccomp_cache)
    _prepare_caller()
    try:
        if direct.is_possible(request):
            return direct.launch(request, compiled, warnings)
        if direct_user.is_possible(request):
            return direct_user.launch(request, compiled, warnings)
    except OSError as error:
        raise as_sampan_error(error) from error
    supervisor, sock = _fork(partial(supervise.supervise, request, compiled))
    return Supervised(sock, supervisor, request.cgroup, warnings)


def launch_exec(request: ExecRequest) -> Launching:
    """Begin to start one more process in a running container; returns after one fork.

    It, or `finish`, raises what that of a launch does, and Conflict if the container does not run.
    """
    compiled, warnings = _compile(request.seccomp, request.seccomp_cache)
    _prepare_caller()
    if direct_exec.is_possible(request):
        return direct_exec.launch(request, compiled, warnings)
    supervisor, sock = _fork(partial(runtime_exec.supervise_exec, request, compiled))
    return Supervised(sock, supervisor, request.cgroup, warnings)


def _fork(supervisor: Callable[[socket.socket], NoReturn]) -> tuple[int, socket.socket]:
    """Fork a supervisor; return its pid and our end of the socket on which it reports."""
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


def _prepare_caller() -> None:
    """Find out what is found out once per process, so that no child has to."""
    reap_helpers()
    detect()
    capabilities.last()


def reap_later(pid: int) -> None:
    """Have `reap_helpers` collect a child that is about to end."""
    _ending.add(pid)


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
