"""The supervisor of one start: forked by the caller, it lives for some milliseconds.

It makes the cgroup, clones init as a child of the caller (CLONE_PARENT), writes id maps, runs the
hooks that belong to the host, waits until the program has been executed, and reports. When
something fails it kills and removes what it made, and then says what was wrong.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import msgspec

from sampan.errors import Internal, InvalidArgument, SampanError
from sampan.linux import mounts, namespaces, process, seccomp, terminal
from sampan.linux.cgroups.cgroup import Cgroup
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.namespaces import CLONE_NEWTIME, CLONE_NEWUSER, CLONE_PARENT
from sampan.runtime import channel as ch
from sampan.runtime import hooks, init, mounting, prepare, state
from sampan.runtime.channel import Channel, reason
from sampan.runtime.options import Planned
from sampan.spec.runtime import Linux, LinuxIDMapping, LinuxSeccomp, Process, State

if TYPE_CHECKING:
    from sampan.runtime.requests import LaunchRequest

REPORT = 1 << 16  # bytes; warnings are cut before they reach it
PATIENCE = 2.0  # seconds that a killed init may take to die


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


@dataclass(slots=True)
class Progress:
    """What exists so far of a start, for the report and for the cleaning up."""

    pid: int = 0
    pidfd: int = -1
    master: int = -1
    helpers: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    cgroup: Cgroup | None = None
    created: bool = False  # the cgroup is ours to remove
    state_dir: str = ""  # ours to remove, too


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


def as_sampan_error(error: BaseException) -> SampanError:
    """Return an error that may cross a boundary; a refusal of the kernel blames the request."""
    if isinstance(error, SampanError):
        return error
    if isinstance(error, OSError):
        about = f": {error.filename}" if error.filename else ""
        return InvalidArgument(f"{reason(error)}{about}")
    return Internal(f"{type(error).__name__}: {error}")


def clean_up(progress: Progress) -> None:
    """Kill and remove all that a failed start has made."""
    if progress.state_dir:
        state.remove(progress.state_dir)
    if progress.pidfd >= 0:
        with suppress(ProcessLookupError):
            namespaces.pidfd_send_signal(progress.pidfd, signal.SIGKILL)
        select.select([progress.pidfd], [], [], PATIENCE)
    if progress.cgroup is not None and progress.created:
        with suppress(OSError):
            progress.cgroup.kill()
        with suppress(OSError):
            progress.cgroup.remove()


def supervise(
    request: LaunchRequest, filter: seccomp.Filter | None, report: socket.socket
) -> NoReturn:
    """Start a container, in the forked supervisor."""
    progress = Progress()
    try:
        become_supervisor()
        _start(request, filter, progress)
        report_success(report, progress)
    except BaseException as error:  # noqa: BLE001 - reported to the caller
        report_failure(report, progress, error)
    finally:
        os._exit(0)


def _start(request: LaunchRequest, filter: seccomp.Filter | None, progress: Progress) -> None:
    linux = request.spec.linux or Linux()
    if request.state_dir:
        state.claim(request.state_dir)
        progress.state_dir = request.state_dir
    plan = prepare.plan_namespaces(request)
    setup, progress.warnings = prepare.setup(request, plan, filter)
    if plan.is_private_user:
        _open_sources(setup)
    elif any(mount.id_maps for mount in setup.mounts):
        _open_id_maps(setup.mounts)
    if request.hold:
        setup.fifo = state.make_fifo(request.state_dir)
    _enter_cgroup(request, setup, linux, progress)
    ours, theirs = Channel.pair()
    try:
        _clone(plan, linux, setup, progress, theirs)
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
    channel: Channel,
) -> None:
    """Make init, directly or by a process that joins namespaces first."""
    offsets = prepare.time_offsets(linux) if "time" in plan.new else b""
    flags = plan.flags & ~(CLONE_NEWTIME if offsets else 0)
    inside = setup.entry.into if setup.entry is not None and "user" not in plan.joined else -1
    setup.born_inside = inside >= 0
    if plan.early or offsets:
        join_and_clone(
            plan.early, flags, inside, offsets, progress, lambda: init.run(setup, channel)
        )
        return
    progress.pid, progress.pidfd = clone_sibling(flags, inside)
    if progress.pid == 0:
        init.run(setup, channel)


def clone_sibling(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Make a child of our own parent; raises InvalidArgument."""
    try:
        return namespaces.clone3(flags | CLONE_PARENT, cgroup)
    except OSError as error:
        raise InvalidArgument(f"unable to make the namespaces: {reason(error)}") from None


def join_and_clone(
    joins: list[tuple[int, int]],
    flags: int,
    cgroup: int,
    offsets: bytes,
    progress: Progress,
    run: init.Entrance,
) -> None:
    """Let a sibling of ours join namespaces and make the process, which calls `run`.

    The supervisor itself must stay outside, so that it can clean up.
    """
    ours, theirs = Channel.pair()
    helper, pidfd = clone_sibling(0)
    if helper == 0:
        _join(joins, flags, cgroup, offsets, theirs, run)
    theirs.close()
    os.close(pidfd)
    progress.helpers.append(helper)
    tag, text, fd = ours.receive()
    ours.close()
    if tag != ch.BORN:
        raise received_error(tag, text)
    progress.pid, progress.pidfd = int(text), fd


def _join(
    joins: list[tuple[int, int]],
    flags: int,
    cgroup: int,
    offsets: bytes,
    channel: Channel,
    run: init.Entrance,
) -> NoReturn:
    try:
        join_all(joins)
        if offsets:
            namespaces.unshare(CLONE_NEWTIME)
            with open("/proc/self/timens_offsets", "wb", buffering=0) as file:
                file.write(offsets)
        pid, pidfd = namespaces.clone3(flags | CLONE_PARENT, cgroup)
        if pid == 0:
            channel.close()
            run()
        channel.send(ch.BORN, b"%d" % pid, pidfd)
    except OSError as error:
        channel.fail(InvalidArgument(f"unable to join the namespaces: {reason(error)}"))
    except BaseException as error:  # noqa: BLE001 - reported to the supervisor
        channel.fail(error)
    finally:
        os._exit(0)


def join_all(joins: list[tuple[int, int]]) -> None:
    """Join namespaces; those that belong to a user namespace among them come after it."""
    refused = []
    users = [join for join in joins if join[1] & CLONE_NEWUSER]
    for fd, kind in joins:
        if kind & CLONE_NEWUSER:
            continue
        try:
            namespaces.setns(fd, kind)
        except PermissionError:
            refused.append((fd, kind))
    for fd, kind in users:
        namespaces.setns(fd, kind)
        init.become_root()
    for fd, kind in refused:
        namespaces.setns(fd, kind)


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
        write_id_maps(progress.pid, linux.uid_mappings, linux.gid_mappings)
    if wanted is not None and wanted.oom_score_adj is not None:
        progress.warnings += set_oom_score(progress.pid, wanted.oom_score_adj)
    if setup.waits:
        channel.send(ch.GO)


def write_id_maps(pid: int, uids: list[LinuxIDMapping], gids: list[LinuxIDMapping]) -> None:
    """Write the maps of a process that has just entered a new user namespace."""
    try:
        if os.geteuid() != 0:
            _write(f"/proc/{pid}/setgroups", b"deny")
        _write(f"/proc/{pid}/gid_map", prepare.id_map(gids))
        _write(f"/proc/{pid}/uid_map", prepare.id_map(uids))
    except OSError as error:
        raise InvalidArgument(f"unable to write the id mappings: {reason(error)}") from None


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def set_oom_score(process_name: int | str, score: int) -> list[str]:
    """Set oom_score_adj; to lower it needs CAP_SYS_RESOURCE: then a warning is returned."""
    try:
        _write(f"/proc/{process_name}/oom_score_adj", b"%d" % score)
    except PermissionError:
        return [f"oom_score_adj {score} was refused: it needs CAP_SYS_RESOURCE"]
    except OSError as error:
        raise InvalidArgument(f"invalid oomScoreAdj {score}: {reason(error)}") from None
    return []


def _open_id_maps(plan: list[Planned]) -> None:
    """Make a user namespace for every different mapping of an id-mapped mount."""
    made: dict[bytes, int] = {}
    for mount in plan:
        if not mount.id_maps:
            continue
        uids, gids = mount.id_maps
        key = prepare.id_map(uids) + b"/" + prepare.id_map(gids)
        if key not in made:
            made[key] = user_namespace(uids, gids)
        mount.userns = made[key]


def user_namespace(uids: list[LinuxIDMapping], gids: list[LinuxIDMapping]) -> int:
    """Return a descriptor of a new user namespace with these maps, and nobody inside."""
    pid, pidfd = namespaces.clone3(CLONE_NEWUSER)
    if pid == 0:
        while True:
            signal.pause()
    try:
        write_id_maps(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        namespaces.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)


def _open_sources(setup: init.Setup) -> None:
    """Open what the root of a user namespace could not: the root's path, and bind sources."""
    _open_id_maps(setup.mounts)
    kind = {"private": mounts.MS_PRIVATE}.get(setup.propagation.removeprefix("r"), mounts.MS_SLAVE)
    for mount in setup.mounts:
        if mount.kind != "bind":
            continue
        try:
            mount.tree = mounting.open_bind(mount)
        except OSError as error:
            raise InvalidArgument(
                f'error mounting "{os.fsdecode(mount.source)}" to rootfs at '
                f'"{os.fsdecode(mount.destination)}": {reason(error)}'
            ) from None
        everything = mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE
        mounts.mount_setattr(mount.tree, b"", everything, propagation=kind)
    if isinstance(setup.root, bytes):
        from_host = mounts.OPEN_TREE_CLONE | mounts.AT_RECURSIVE
        setup.root = mounts.open_tree(mounts.AT_FDCWD, setup.root, from_host)


@dataclass(frozen=True, slots=True)
class Agent:
    """Who gets the notifications of a seccomp filter, and what it is told."""

    profile: LinuxSeccomp
    state: State


def _agent(request: LaunchRequest, linux: Linux) -> Agent | None:
    if linux.seccomp is None or not linux.seccomp.listener_path:
        return None
    return Agent(linux.seccomp, prepare.oci_state(request, "creating", 0))


def follow(
    progress: Progress,
    channel: Channel,
    agent: Agent | None = None,
    *,
    hold: bool = False,
    host_hooks: Callable[[], None] | None = None,
) -> None:
    """Serve init until it has executed the program (with `hold`, until it waits for `start`)."""
    ready = False
    while True:
        tag, text, fd = channel.receive()
        if tag == ch.MASTER:
            progress.master = fd
        elif tag == ch.HOOKS and host_hooks is not None:
            host_hooks()
            channel.send(ch.GO)
        elif tag == ch.WARNING:
            progress.warnings.append(text.decode("utf-8", "replace"))
        elif tag == ch.LISTENER and agent is not None:
            agent.state.pid = agent.state.pid or progress.pid
            seccomp.send_listener(agent.profile, agent.state, progress.pid, fd)
            os.close(fd)
        elif tag == ch.CLAIMED:
            progress.state_dir = os.fsdecode(text)
        elif tag == ch.CGROUP:
            progress.cgroup, progress.created = open_cgroup(os.fsdecode(text)), True
        elif tag == ch.READY:
            ready = True
            if hold:
                return
        elif tag or not ready:
            raise received_error(tag, text)
        else:
            return  # closed by the execution


def _host_hooks(request: LaunchRequest, progress: Progress) -> None:
    wanted = request.spec.hooks
    if wanted is None:
        return
    document = hooks.encode_state(prepare.oci_state(request, "creating", progress.pid))
    hooks.run_all("prestart", hooks.prepare(wanted.prestart), document)
    hooks.run_all("createRuntime", hooks.prepare(wanted.create_runtime), document)


def received_error(tag: bytes, text: bytes) -> SampanError:
    """Return the error that init reported, or that of an init which died without a word."""
    if tag != ch.ERROR:
        return SampanError("the container's init was killed before it could start the program")
    code, _, message = text.partition(b"\0")
    kind = SampanError.by_code.get(code.decode("ascii", "replace"), SampanError)
    return kind(message.decode("utf-8", "replace"))
