"""The usual exec: one process prepares and joins, a second one is seen inside and executes.

The first is in the pid namespace of the host. Only when it is inside all others of the container,
and has closed what is the host's, it makes the second in that of the container: to a program there
with CAP_SYS_PTRACE, /proc/PID/root and /proc/PID/fd of a process show all that this one can see.
The way over a supervisor as well (`exec.py`) costs one fork more.
"""

from __future__ import annotations

import os
from typing import NoReturn

from sampan.errors import Conflict
from sampan.linux import namespaces, process, seccomp
from sampan.linux.cgroups.cgroup import Entry
from sampan.linux.cgroups.hierarchy import detect
from sampan.linux.namespaces import CLONE_PARENT, KINDS
from sampan.runtime.roots.null import nothing_to_read
from sampan.runtime.starting import channel as ch
from sampan.runtime.starting import exec as runtime_exec
from sampan.runtime.starting import supervise
from sampan.runtime.starting.channel import Channel
from sampan.runtime.starting.direct import Direct
from sampan.runtime.starting.progress import Progress, as_sampan_error
from sampan.runtime.starting.requests import ExecRequest

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
        process.prctl(process.PR_SET_DUMPABLE, 0)  # of the child, too, from its first instant
        setup, warnings = runtime_exec.prepare(request, compiled)
        setup.alive, setup.waits = dead, False
        setup.entry = entry if entry is not None else runtime_exec.enter_cgroup(request)
        setup.born_inside = entry is not None and entry.into >= 0
        if request.process.oom_score_adj is not None:
            warnings += supervise.set_oom_score("self", request.process.oom_score_adj)
        for warning in warnings:
            channel.send(ch.WARNING, warning.encode("utf-8", "replace"))
        runtime_exec.place(setup)
        _enter(setup, foreign, pidfd)
        _make(setup, channel)
    except BaseException as error:  # noqa: BLE001 - reported to the caller
        channel.fail(as_sampan_error(error))
    finally:
        os._exit(1)


def _enter(setup: runtime_exec.Setup, foreign: list[str], pidfd: int) -> None:
    """Join all namespaces; that of pids is for children."""
    flags = 0
    for kind in foreign:
        flags |= KINDS[kind][0]
    try:
        namespaces.setns(pidfd, flags)
    except ProcessLookupError:
        raise Conflict(f"Container {setup.id.decode()} is not running") from None


def _make(setup: runtime_exec.Setup, channel: Channel) -> NoReturn:
    """Make the process that executes, with no descriptor of the host; end when it is known."""
    goes, says = os.pipe2(os.O_CLOEXEC)
    _leave_host(setup, {channel.fileno(), goes, says})
    pid, pidfd = namespaces.clone3(CLONE_PARENT)
    if pid == 0:
        os.close(says)
        if not os.read(goes, 1):  # nobody knows of us
            os._exit(1)
        os.close(goes)
        runtime_exec.run(setup, channel)
    channel.send(ch.BORN, b"%d" % pid, pidfd)
    os.write(says, b"\0")
    os._exit(0)


def _leave_host(setup: runtime_exec.Setup, kept: set[int]) -> None:
    """Close all but these and what the program gets, its streams in the place of ours."""
    program = setup.program
    streams = program.stdio or (0, 1, 2)
    if program.terminal:
        end = nothing_to_read()
        streams = (end, end, end)
    for number, fd in enumerate(streams):
        if fd != number:
            os.dup2(fd, number)
    given = {*program.pass_fds, *(program.stdio or ()), program.null, setup.alive}
    process.close_all_but({fd for fd in kept | given if fd >= 0})
