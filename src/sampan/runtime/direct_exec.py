"""The usual exec: one clone, straight into the container's pid namespace.

The caller points its own `pid_for_children` at the container for the length of one clone3(2). The
child, ours to reap, prepares the program while it still sees the files of the host, enters the
cgroup and the other namespaces, and executes. The way over a supervisor and a joiner (`exec.py`)
costs two forks more: 4 ms of 9.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from sampan.errors import Conflict
from sampan.linux import namespaces, process, seccomp
from sampan.linux.cgroups.cgroup import Entry
from sampan.linux.cgroups.hierarchy import detect
from sampan.linux.namespaces import CLONE_NEWPID, KINDS
from sampan.runtime import channel as ch
from sampan.runtime import exec as runtime_exec
from sampan.runtime import supervise
from sampan.runtime.channel import Channel
from sampan.runtime.direct import Direct
from sampan.runtime.progress import Progress, as_sampan_error
from sampan.runtime.requests import ExecRequest

#: Namespaces that take our privileges, or that only children enter.
FOREIGN = frozenset({"user", "time"})


def is_possible(request: ExecRequest) -> bool:
    """Tell whether nobody needs to stay outside; raises Conflict if the container has ended."""
    if request.console_socket or (request.seccomp and request.seccomp.listener_path):
        return False
    if not namespaces.is_single_threaded():
        return False
    try:
        return all(namespaces.is_same(request.pid, kind) for kind in FOREIGN)
    except ProcessLookupError:
        raise Conflict(f"Container {request.id} is not running") from None


def launch(request: ExecRequest, compiled: seccomp.Filter | None, warnings: list[str]) -> Direct:
    """Clone the process; raises Conflict if the container has ended."""
    pidfd, foreign = runtime_exec.find(request)
    progress = Progress(warnings=list(warnings), filtered=compiled is not None)
    entry = None
    ours, theirs = Channel.pair()
    alive, dead = os.pipe2(os.O_CLOEXEC)
    try:
        if detect().version == 2:  # clone3 enters the cgroup
            entry = runtime_exec.enter_cgroup(request)
        inside = entry.into if entry is not None else -1
        with _children_in(pidfd if "pid" in foreign else -1):
            progress.pid, progress.pidfd = namespaces.clone3(0, inside)
            if progress.pid == 0:
                _prepare(request, compiled, foreign, pidfd, entry, theirs, dead)
    except BaseException as error:
        ours.close()
        os.close(alive)
        if isinstance(error, OSError) and namespaces.wait_ended(pidfd, 0):
            raise Conflict(f"Container {request.id} is not running") from error
        raise as_sampan_error(error) from error
    finally:
        theirs.close()
        os.close(dead)
        if entry is not None:
            entry.close()
        if request.pidfd is None:
            os.close(pidfd)
    return Direct(progress, ours, alive, request.cgroup)


@contextmanager
def _children_in(pidfd: int) -> Iterator[None]:
    """Let the children of the caller be made in the pid namespace of a process; -1 for our own.

    From the first instant they can be seen from inside, so they inherit that they cannot be traced.
    """
    dumpable = process.prctl(process.PR_GET_DUMPABLE)
    process.prctl(process.PR_SET_DUMPABLE, 0)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if pidfd >= 0 else -1
    try:
        if pidfd >= 0:
            namespaces.setns(pidfd, CLONE_NEWPID)
        yield
    finally:
        if own >= 0:
            namespaces.setns(own, CLONE_NEWPID)
            os.close(own)
        if dumpable == 1:  # SUID_DUMP_USER; the kernel refuses to set what else it may be
            process.prctl(process.PR_SET_DUMPABLE, dumpable)


def _prepare(
    request: ExecRequest,
    compiled: seccomp.Filter | None,
    foreign: list[str],
    pidfd: int,
    entry: Entry | None,
    channel: Channel,
    dead: int,
) -> NoReturn:
    """What runs first in the new process: it sees the files of the host still."""
    try:
        supervise.become_supervisor()
        setup, warnings = runtime_exec.prepare(request, compiled)
        setup.alive, setup.waits = dead, False
        setup.entry = entry if entry is not None else runtime_exec.enter_cgroup(request)
        setup.born_inside = entry is not None and entry.into >= 0
        if request.process.oom_score_adj is not None:
            warnings += supervise.set_oom_score("self", request.process.oom_score_adj)
        for warning in warnings:
            channel.send(ch.WARNING, warning.encode("utf-8", "replace"))
        for kind in foreign:
            setup.joins |= KINDS[kind][0]
        setup.joins &= ~CLONE_NEWPID
        setup.init = pidfd
    except BaseException as error:  # noqa: BLE001 - reported to the caller
        channel.fail(as_sampan_error(error))
        os._exit(1)
    runtime_exec.run(setup, channel)
