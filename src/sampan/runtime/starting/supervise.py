"""The supervisor of one start: forked by the caller, it lives for some milliseconds.

It makes the cgroup, clones init as a child of the caller (CLONE_PARENT), writes id maps, runs the
hooks that belong to the host, waits until the program has been executed, and reports. When
something fails it kills and removes what it made, and then says what was wrong.
"""

from __future__ import annotations

import gc
import os
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import msgspec

from sampan.errors import InvalidArgument
from sampan.linux import process, seccomp, terminal
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.namespaces import CLONE_NEWTIME
from sampan.runtime import hooks, state
from sampan.runtime.roots import idmaps
from sampan.runtime.starting import channel as ch
from sampan.runtime.starting import init, joining, prepare, user_namespaces
from sampan.runtime.starting.channel import Channel, reason
from sampan.runtime.starting.progress import Agent, Progress, as_sampan_error, clean_up, follow
from sampan.spec.runtime import Linux, Process

if TYPE_CHECKING:
    from sampan.runtime.starting.requests import LaunchRequest

REPORT = 1 << 16  # bytes; warnings are cut before they reach it


class Success(msgspec.Struct, tag="ok"):
    """The program runs; pidfd and perhaps the terminal's master come beside."""

    pid: int
    started_at: int
    warnings: list[str]
    helpers: list[int]  # processes of ours that the caller has to reap


class Failure(msgspec.Struct, tag="failure"):
    """What stopped the start."""

    code: str
    message: str
    helpers: list[int]


def receive_report(sock: socket.socket) -> tuple[Success | Failure, list[int]]:
    """Wait for the report of a supervisor; return it with its descriptors."""
    try:
        packet, descriptors, _, _ = socket.recv_fds(sock, REPORT, 2, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        packet, descriptors = b"", []
    if not packet:
        return Failure("internal", "the process that starts containers was killed", []), []
    report: Success | Failure = msgspec.msgpack.decode(packet, type=Success | Failure)
    return report, descriptors


def become_supervisor() -> None:
    """Shed what a forked child inherits from its parent: signal handlers, mask, collector."""
    gc.disable()
    process.prctl(process.PR_SET_DUMPABLE, 0)
    process.default_signals()


def report_success(sock: socket.socket, progress: Progress) -> None:
    """Send pid, pidfd and master to the caller."""
    fds = [progress.pidfd] + ([progress.master] if progress.master >= 0 else [])
    warnings = [text[:1000] for text in progress.warnings[:32]]
    report = Success(progress.pid, time.time_ns(), warnings, progress.helpers)
    socket.send_fds(sock, [msgspec.msgpack.encode(report)], fds)


def report_failure(sock: socket.socket, progress: Progress, error: BaseException) -> None:
    """Kill and remove what was made, then send what was wrong."""
    clean_up(progress)
    pids = progress.helpers + ([progress.pid] if progress.pid else [])
    told = as_sampan_error(error)
    report = Failure(told.code, str(told)[:8000], pids)
    sock.sendmsg([msgspec.msgpack.encode(report)], [], socket.MSG_NOSIGNAL)


def supervise(
    request: LaunchRequest, filter: seccomp.Filter | None, report: socket.socket
) -> NoReturn:
    """Start a container, in the forked supervisor."""
    progress = Progress(filtered=filter is not None)
    try:
        become_supervisor()
        _start(request, filter, progress, report)
        report_success(report, progress)
    except BaseException as error:  # noqa: BLE001 - reported to the caller
        report_failure(report, progress, error)
    finally:
        os._exit(0)


def _start(
    request: LaunchRequest,
    filter: seccomp.Filter | None,
    progress: Progress,
    report: socket.socket,
) -> None:
    linux = request.spec.linux or Linux()
    if request.state_dir:
        state.claim(request.state_dir)
        progress.state_dir = request.state_dir
    plan = prepare.plan_namespaces(request)
    setup, progress.warnings = prepare.setup(request, plan, filter)
    idmaps.open_sources(setup, request, private=plan.is_private_user)
    if plan.is_private_user and request.stdio is not None:
        idmaps.give_streams(request.stdio, idmaps.host_id(linux.uid_mappings, setup.program.uid))
    if request.hold:
        setup.fifo = state.make_fifo(request.state_dir)
    _enter_cgroup(request, setup, linux, progress)
    ours, theirs = Channel.pair()
    try:
        _clone(plan, linux, setup, progress, partial(_init, setup, theirs, ours, report))
    finally:
        theirs.close()
    if setup.entry is not None:
        setup.entry.close()
    _release(linux, plan, setup, request.spec.process, progress, ours)
    follow(
        progress,
        ours,
        _agent(request, linux),
        hold=request.hold,
        host_hooks=partial(_host_hooks, request, progress),
    )
    if request.state_dir:
        state.save(request, progress.pid, time.time_ns())
    if request.spec.hooks and request.spec.hooks.poststart and not request.hold:
        running = hooks.encode_state(prepare.oci_state(request, "running", progress.pid))
        hooks.run_all("poststart", hooks.prepare(request.spec.hooks.poststart), running)
    if progress.master >= 0 and request.console_socket:
        send_console(progress, request.console_socket)


def send_console(progress: Progress, path: str) -> None:
    """Hand the master of the terminal to the console socket."""
    try:
        terminal.send_master(progress.master, path)
    except OSError as error:
        raise InvalidArgument(f"cannot reach the console socket {path}: {reason(error)}") from None
    os.close(progress.master)
    progress.master = -1


def _enter_cgroup(
    request: LaunchRequest, setup: init.Setup, linux: Linux, progress: Progress
) -> None:
    if request.cgroup:
        progress.cgroup = open_cgroup(request.cgroup)
        progress.warnings += progress.cgroup.create(linux.resources)
        progress.created = True
        setup.entry = progress.cgroup.entry()
    show_cgroup(request, setup)


def show_cgroup(request: LaunchRequest, setup: init.Setup) -> None:
    """Find out what the cgroup mount of a container shows, if it has one."""
    if any(mount.kind in ("cgroup", "cgroup2") for mount in setup.mounts):
        setup.cgroups = prepare.cgroup_view(request.cgroup, own_namespace=setup.new_cgroup)


def _clone(
    plan: prepare.NamespacePlan,
    linux: Linux,
    setup: init.Setup,
    progress: Progress,
    run: init.Entrance,
) -> None:
    """Make init, directly or by a process that joins namespaces first."""
    offsets = prepare.time_offsets(linux) if "time" in plan.new else b""
    flags = plan.flags & ~(CLONE_NEWTIME if offsets else 0)
    inside = setup.entry.into if setup.entry is not None and "user" not in plan.joined else -1
    setup.born_inside = inside >= 0
    if plan.early or offsets:
        joining.join_and_clone(plan.early, flags, inside, offsets, progress, run)
        return
    progress.pid, progress.pidfd = joining.clone_sibling(flags, inside)
    if progress.pid == 0:
        run()


def _init(setup: init.Setup, channel: Channel, ours: Channel, report: socket.socket) -> NoReturn:
    """What init does first: let go of what is the supervisor's, whose death nobody saw else."""
    ours.close()
    report.close()
    init.run(setup, channel)


def _release(
    linux: Linux,
    plan: prepare.NamespacePlan,
    setup: init.Setup,
    wanted: Process | None,
    progress: Progress,
    channel: Channel,
) -> None:
    """Do what init waits for: id maps and the OOM score."""
    if "user" in plan.new:
        user_namespaces.write_id_maps(progress.pid, linux.uid_mappings, linux.gid_mappings)
    if wanted is not None and wanted.oom_score_adj is not None:
        progress.warnings += set_oom_score(progress.pid, wanted.oom_score_adj)
    if setup.waits:
        channel.send(ch.GO)


def set_oom_score(process_name: int | str, score: int) -> list[str]:
    """Set oom_score_adj; to lower it needs CAP_SYS_RESOURCE: then a warning is returned."""
    try:
        user_namespaces.write(f"/proc/{process_name}/oom_score_adj", b"%d" % score)
    except PermissionError:
        return [f"oom_score_adj {score} was refused: it needs CAP_SYS_RESOURCE"]
    except OSError as error:
        raise InvalidArgument(f"invalid oomScoreAdj {score}: {reason(error)}") from None
    return []


def _host_hooks(request: LaunchRequest, progress: Progress) -> None:
    wanted = request.spec.hooks
    if wanted is None:
        return
    document = hooks.encode_state(prepare.oci_state(request, "creating", progress.pid))
    hooks.run_all("prestart", hooks.prepare(wanted.prestart), document)
    hooks.run_all("createRuntime", hooks.prepare(wanted.create_runtime), document)


def _agent(request: LaunchRequest, linux: Linux) -> Agent | None:
    if linux.seccomp is None or not linux.seccomp.listener_path:
        return None
    return Agent(linux.seccomp, prepare.oci_state(request, "creating", 0))
