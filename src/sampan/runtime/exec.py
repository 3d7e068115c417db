"""One more process in a running container: join everything, drop the same privileges, execute.

A sibling of the supervisor joins all namespaces of the container's init in one setns(2) on its
pidfd and makes the process there. It cannot be traced or inspected from inside the container
(PR_SET_DUMPABLE, CVE-2016-9962), and holds no descriptor of a host directory when it executes.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from sampan.errors import Conflict, InvalidArgument
from sampan.linux import namespaces, paths, process, seccomp
from sampan.linux.cgroups.cgroup import Entry
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.namespaces import KINDS
from sampan.runtime import channel as ch
from sampan.runtime import execution, init, joining, program, supervise
from sampan.runtime.channel import Channel
from sampan.runtime.progress import Agent, Progress, follow
from sampan.spec.runtime import Spec, State

if TYPE_CHECKING:
    from sampan.runtime.requests import ExecRequest


@dataclass(slots=True)
class Setup:
    """One exec, prepared."""

    id: bytes
    entry: Entry | None
    born_inside: bool
    waits: bool
    program: program.Program
    proc: int  # /proc of the host, for security labels; -1 without


def supervise_exec(
    request: ExecRequest, filter: seccomp.Filter | None, report: socket.socket
) -> NoReturn:
    """Start the process, in the forked supervisor."""
    progress = Progress()
    try:
        supervise.become_supervisor()
        _start(request, filter, progress)
        supervise.report_success(report, progress)
    except BaseException as error:  # noqa: BLE001 - reported to the caller
        supervise.report_failure(report, progress, error)
    finally:
        os._exit(0)


def _start(request: ExecRequest, filter: seccomp.Filter | None, progress: Progress) -> None:
    pidfd = request.pidfd
    try:
        if pidfd is None:
            pidfd = namespaces.pidfd_open(request.pid)
        foreign = [kind for kind in KINDS if not namespaces.is_same(request.pid, kind)]
    except ProcessLookupError:
        raise Conflict(f"Container {request.id} is not running") from None
    prepared, progress.warnings = program.prepare(
        request.process,
        filter=filter,
        stdio=request.stdio,
        pass_fds=request.pass_fds,
        listen_fds=request.listen_fds,
    )
    _set_home(prepared, request.pid)
    setup = Setup(
        id=request.id.encode(),
        entry=None,
        born_inside=False,
        waits=request.process.oom_score_adj is not None,
        program=prepared,
        proc=paths.open_proc() if prepared.apparmor or prepared.selinux else -1,
    )
    if request.cgroup:
        setup.entry = open_cgroup(request.cgroup).entry(beside=request.pid)
    inside = -1
    if setup.entry is not None and "user" not in foreign:
        inside = setup.entry.into
        setup.born_inside = inside >= 0
    flags = 0
    for kind in foreign:
        flags |= KINDS[kind][0]
    ours, theirs = Channel.pair()
    try:
        _clone(setup, pidfd, flags, inside, progress, theirs)
    finally:
        theirs.close()
    if setup.entry is not None:
        setup.entry.close()
    if request.process.oom_score_adj is not None:
        score = request.process.oom_score_adj
        progress.warnings += supervise.set_oom_score(progress.pid, score)
    if setup.waits:
        ours.send(ch.GO)
    follow(progress, ours, seccomp_agent(request))
    if progress.master >= 0 and request.console_socket:
        supervise.send_console(progress, request.console_socket)


def _set_home(prepared: program.Program, pid: int) -> None:
    """Look the home directory up from outside: inside, nothing is looked up."""
    try:
        root = os.open(f"/proc/{pid}/root", paths.O_DIRECTORY)
    except OSError:
        return
    program.set_home(prepared, root)
    os.close(root)


def seccomp_agent(request: ExecRequest) -> Agent | None:
    """Return who gets the listener of the filter, if it has one."""
    if request.seccomp is None or not request.seccomp.listener_path:
        return None
    state = State(
        oci_version=Spec().oci_version,
        id=request.id,
        status="running",
        pid=request.pid,
        bundle=request.bundle,
    )
    return Agent(request.seccomp, state)


def _clone(
    setup: Setup,
    pidfd: int,
    flags: int,
    cgroup: int,
    progress: Progress,
    channel: Channel,
) -> None:
    joins = [(pidfd, flags)] if flags else []
    run = partial(_run, setup, channel, bool(flags & namespaces.CLONE_NEWNS))
    try:
        joining.join_and_clone(joins, 0, cgroup, b"", progress, run)
    except InvalidArgument as error:
        if has_ended(pidfd):
            raise Conflict("the container is not running") from error
        raise


def has_ended(pidfd: int) -> bool:
    """Tell whether the process of a pidfd has ended."""
    try:
        namespaces.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return True
    return False


def _run(setup: Setup, channel: Channel, in_root: bool) -> NoReturn:
    """What runs in the new process, inside the container's root already."""
    try:
        process.prctl(process.PR_SET_DUMPABLE, 0)
        if setup.entry is not None:
            setup.entry.enter(into=setup.born_inside)
            setup.entry.close()
        if setup.waits:
            channel.expect(ch.GO)
        os.setsid()
        if in_root:
            init.join_keyring(setup.id)
        slave = -1
        if setup.program.terminal:
            root = os.open(b"/", paths.O_DIRECTORY)
            master, slave = execution.open_terminal(-1, root)
            channel.send(ch.MASTER, b"", master)
            os.close(master)
        if setup.proc >= 0:
            execution.label(setup.program, setup.proc)
            os.close(setup.proc)
        init.finish(setup.program, channel, slave)
    except OSError as error:
        channel.fail(InvalidArgument(f"exec failed: {ch.reason(error)}"))
    except BaseException as error:  # noqa: BLE001 - the process ends here, whatever happened
        channel.fail(error)
    finally:
        os._exit(1)
