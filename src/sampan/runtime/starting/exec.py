"""One more process in a running container: join everything, drop the same privileges, execute.

`direct_exec.py` is the short way. Here, where somebody has to stay outside, a sibling of the
supervisor joins all namespaces of the container's init in one setns(2) on its pidfd and makes the
process there. It cannot be traced or inspected from inside the container (PR_SET_DUMPABLE,
CVE-2016-9962), and holds no descriptor of a host directory when it executes.
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
from sampan.runtime.roots import idmaps
from sampan.runtime.starting import channel as ch
from sampan.runtime.starting import execution, init, joining, program, supervise
from sampan.runtime.starting.channel import Channel
from sampan.runtime.starting.preparing import as_user
from sampan.runtime.starting.progress import Agent, Progress, follow
from sampan.spec.runtime import ExecCPUAffinity, Process, Spec, State

if TYPE_CHECKING:
    from sampan.runtime.starting.requests import ExecRequest


@dataclass(slots=True)
class Setup:
    """One exec, prepared."""

    id: bytes
    entry: Entry | None
    born_inside: bool
    waits: bool
    program: program.Program
    initial_cpus: set[int]  # before the cgroup is entered; empty for all
    final_cpus: set[int]
    proc: int  # /proc of the host, for security labels; -1 without
    alive: int = -1  # closed by the execution


def supervise_exec(
    request: ExecRequest, filter: seccomp.Filter | None, report: socket.socket
) -> NoReturn:
    """Start the process, in the forked supervisor."""
    progress = Progress(filtered=filter is not None)
    try:
        supervise.become_supervisor()
        _start(request, filter, progress, report)
        supervise.report_success(report, progress)
    except BaseException as error:  # noqa: BLE001 - reported to the caller
        supervise.report_failure(report, progress, error)
    finally:
        os._exit(0)


def _start(
    request: ExecRequest,
    filter: seccomp.Filter | None,
    progress: Progress,
    report: socket.socket,
) -> None:
    pidfd, foreign = find(request)
    setup, progress.warnings = prepare(request, filter)
    setup.entry = enter_cgroup(request)
    inside = -1
    if "user" in foreign and request.stdio is not None:
        uid = idmaps.host_id(idmaps.read_uid_map(request.pid), setup.program.uid)
        idmaps.give_streams(request.stdio, uid)
    if setup.entry is not None and "user" not in foreign:
        inside = setup.entry.into
        setup.born_inside = inside >= 0
    flags = 0
    for kind in foreign:
        flags |= KINDS[kind][0]
    ours, theirs = Channel.pair()
    try:
        run_alone = partial(_run_alone, setup, theirs, ours, report)
        _clone(pidfd, flags, inside, progress, run_alone)
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


def prepare(request: ExecRequest, filter: seccomp.Filter | None) -> tuple[Setup, list[str]]:
    """Check and encode the process; return it and sentences on what cannot be done here."""
    prepared, warnings = program.prepare(
        _as_user(request),
        filter=filter,
        stdio=request.stdio,
        pass_fds=request.pass_fds,
        listen_fds=request.listen_fds,
    )
    _set_home(prepared, request.pid)
    affinity = request.process.exec_cpu_affinity or ExecCPUAffinity()
    setup = Setup(
        id=request.id.encode(),
        entry=None,
        born_inside=False,
        waits=request.process.oom_score_adj is not None,
        program=prepared,
        initial_cpus=program.cpu_list(affinity.initial) if affinity.initial else set(),
        final_cpus=program.cpu_list(affinity.final) if affinity.final else set(),
        proc=paths.open_proc() if prepared.apparmor or prepared.selinux else -1,
    )
    return setup, warnings


def _as_user(request: ExecRequest) -> Process:
    """Look the user up in the container's root: here, where its files cost nobody else's time."""
    if request.user is None:
        return request.process
    try:
        root = os.open(f"/proc/{request.pid}/root", paths.O_DIRECTORY)
    except OSError:
        raise Conflict(f"Container {request.id} is not running") from None
    try:
        return as_user(request.process, request.user, request.groups, root)
    finally:
        os.close(root)


def enter_cgroup(request: ExecRequest) -> Entry | None:
    """Open the container's cgroup for a new process; Conflict if it is frozen."""
    if not request.cgroup:
        return None
    cgroup = open_cgroup(request.cgroup)
    if cgroup.is_frozen():  # a process that entered would stop before it could report
        raise Conflict(f"Container {request.id} is paused, unpause the container before exec")
    return cgroup.entry(beside=request.pid)


def find(request: ExecRequest) -> tuple[int, list[str]]:
    """Return a pidfd of the container's init, and the kinds of namespaces that are not ours.

    A container always has a mount namespace of its own. A process without one is not a container:
    what it asks for would be executed among the files of the host.
    """
    ended = Conflict(f"Container {request.id} is not running")
    try:
        pidfd = request.pidfd if request.pidfd is not None else namespaces.pidfd_open(request.pid)
        foreign = [kind for kind in KINDS if not namespaces.is_same(request.pid, kind)]
    except ProcessLookupError:
        raise ended from None
    if namespaces.wait_ended(pidfd, 0):  # asked last: so the number was that process's all along
        raise ended
    if "mount" not in foreign:
        raise InvalidArgument(f"process {request.pid} is not in a container")
    return pidfd, foreign


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


def _run_alone(setup: Setup, channel: Channel, ours: Channel, report: socket.socket) -> NoReturn:
    """Let go of what is the supervisor's, whose death nobody saw else, and run."""
    ours.close()
    report.close()
    run(setup, channel)


def _clone(pidfd: int, flags: int, cgroup: int, progress: Progress, enter: init.Entrance) -> None:
    joins = [(pidfd, flags)]
    try:
        joining.join_and_clone(joins, 0, cgroup, b"", progress, enter)
    except InvalidArgument as error:
        if namespaces.wait_ended(pidfd, 0):
            raise Conflict("the container is not running") from error
        raise


def place(setup: Setup) -> None:
    """Enter the cgroup, on its processors, and label what is executed next; done once."""
    if setup.initial_cpus:
        os.sched_setaffinity(0, setup.initial_cpus)
    if setup.entry is not None:
        setup.entry.enter(into=setup.born_inside)
        setup.entry.close()
    if setup.final_cpus:
        os.sched_setaffinity(0, setup.final_cpus)
    if setup.proc >= 0:
        execution.label(setup.program, setup.proc)
        os.close(setup.proc)
    setup.initial_cpus, setup.final_cpus, setup.entry, setup.proc = set(), set(), None, -1


def run(setup: Setup, channel: Channel) -> NoReturn:
    """What runs in the new process, inside the container's root or about to enter it."""
    try:
        process.prctl(process.PR_SET_DUMPABLE, 0)
        place(setup)
        if setup.waits:
            channel.expect(ch.GO)
        os.setsid()
        init.join_keyring(setup.id)
        slave = -1
        if setup.program.terminal:
            root = os.open(b"/", paths.O_DIRECTORY)
            master, slave = execution.open_terminal(-1, root)
            channel.send(ch.MASTER, b"", master)
            os.close(master)
        init.finish(setup.program, channel, slave, setup.alive)
    except OSError as error:
        channel.fail(InvalidArgument(f"exec failed: {ch.reason(error)}"))
    except BaseException as error:  # noqa: BLE001 - the process ends here, whatever happened
        channel.fail(error)
    finally:
        os._exit(1)
