"""From a prepared process to the program: privileges dropped in order, then execve(2).

Shared by the init of a container and by exec. `prepare` runs while the host is still around it;
everything below it runs inside the container's root and must import, encode and look up nothing.
The order is that of runc's init: see docs/explanation/architecture/runtime.md.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from typing import NoReturn

from sampan.errors import CommandNotExecutable, CommandNotFound, InvalidArgument
from sampan.linux import capabilities, paths, process, seccomp, terminal, users
from sampan.runtime.channel import LISTENER, Channel, reason
from sampan.spec.runtime import LinuxPersonality, Process

MAX_ID = (1 << 31) - 1
DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HIGH_FD = 256  # descriptors are parked from here on while 0, 1, 2, 3 … are put into place
INFINITY = (1 << 64) - 1


@dataclass(slots=True)
class Program:
    """A process as it will be executed; everything is encoded."""

    argv: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    uid: int
    gid: int
    groups: list[int]
    umask: int
    sets: capabilities.CapabilitySets | None
    rlimits: list[tuple[int, int, int]]
    no_new_privileges: bool
    filter: seccomp.Prepared | None
    apparmor: bytes
    selinux: bytes
    scheduler: tuple[int, int, int, int, int, int, int] | None
    io_priority: tuple[int, int] | None
    personality: int | None
    terminal: bool
    rows: int
    columns: int
    stdio: tuple[int, int, int] | None
    pass_fds: tuple[int, ...]
    listen_fds: bool
    may_set_groups: bool = True


def prepare(
    wanted: Process,
    *,
    filter: seccomp.Filter | None,
    personality: LinuxPersonality | None = None,
    stdio: tuple[int, int, int] | None = None,
    pass_fds: tuple[int, ...] = (),
    listen_fds: bool = False,
) -> tuple[Program, list[str]]:
    """Check and encode a process; return it and sentences on what cannot be done here.

    Raises InvalidArgument.
    """
    if not wanted.args or not wanted.args[0]:
        raise InvalidArgument("args must not be empty")
    if not wanted.cwd.startswith("/"):
        raise InvalidArgument(f"Cwd must be an absolute path: {wanted.cwd!r}")
    user = wanted.user
    for number in (user.uid, user.gid, *user.additional_gids):
        if not 0 <= number <= MAX_ID:
            raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}")
    warnings: list[str] = []
    sets = None
    if wanted.capabilities is not None:
        sets, unknown = capabilities.sets(wanted.capabilities)
        if unknown:
            warnings.append(f"ignoring unknown or unavailable capabilities: {', '.join(unknown)}")
    size = wanted.console_size
    program = Program(
        argv=[_encode(item, "argument") for item in wanted.args],
        env=_environment(wanted.env),
        cwd=_encode(wanted.cwd, "working directory"),
        uid=user.uid,
        gid=user.gid,
        groups=list(user.additional_gids),
        umask=0o022 if user.umask is None else user.umask & 0o777,
        sets=sets,
        rlimits=_rlimits(wanted, warnings),
        no_new_privileges=wanted.no_new_privileges,
        filter=filter.prepare() if filter else None,
        apparmor=_label(wanted.apparmor_profile, "/sys/module/apparmor", "AppArmor", warnings),
        selinux=_label(wanted.selinux_label, "/sys/fs/selinux/enforce", "SELinux", warnings),
        scheduler=_scheduler(wanted),
        io_priority=_io_priority(wanted),
        personality=_personality(personality),
        terminal=wanted.terminal,
        rows=size.height if size else 0,
        columns=size.width if size else 0,
        stdio=stdio,
        pass_fds=pass_fds,
        listen_fds=listen_fds,
    )
    return program, warnings


def _encode(text: str, what: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise InvalidArgument(f"invalid {what} {text!r}: contains NUL byte")
    return encoded


def _environment(items: list[str]) -> dict[bytes, bytes]:
    env = {}
    for item in items:
        key, equals, value = _encode(item, "environment variable").partition(b"=")
        if not equals:
            raise InvalidArgument(f"invalid environment variable \"{item}\": missing '='")
        if not key:
            raise InvalidArgument(f'invalid environment variable "{item}": name cannot be empty')
        env[key] = value
    return env


def _rlimits(wanted: Process, warnings: list[str]) -> list[tuple[int, int, int]]:
    """Return the limits; hard ones that we may not have are lowered to ours, with one warning."""
    limits, lowered, seen = [], [], set()
    may_raise = capabilities.capget().effective & (1 << 24)  # CAP_SYS_RESOURCE
    for limit in wanted.rlimits:
        number = process.RLIMITS.get(limit.type)
        if number is None:
            raise InvalidArgument(f'invalid rlimit type "{limit.type}"')
        if number in seen:
            raise InvalidArgument(f'rlimit "{limit.type}" was specified more than once')
        seen.add(number)
        soft, hard = limit.soft & INFINITY, limit.hard & INFINITY
        if not may_raise:
            ours = process.prlimit(0, number)[1]
            if hard > ours:
                hard = ours
                lowered.append(f"{limit.type} to {ours}")
        limits.append((number, min(soft, hard), hard))
    if lowered:
        warnings.append(
            "without CAP_SYS_RESOURCE hard limits cannot be raised; lowered " + ", ".join(lowered)
        )
    return limits


def _label(label: str, marker: str, name: str, warnings: list[str]) -> bytes:
    if not label or (name == "AppArmor" and label == "unconfined" and not os.path.exists(marker)):
        return b""
    if not os.path.exists(marker):
        warnings.append(f"this kernel has no {name}: the label {label} is ignored")
        return b""
    return _encode(label, f"{name} label")


def _scheduler(wanted: Process) -> tuple[int, int, int, int, int, int, int] | None:
    if wanted.scheduler is None:
        return None
    s = wanted.scheduler
    policy = process.SCHEDULERS.get(s.policy)
    if policy is None:
        raise InvalidArgument(f'invalid scheduler policy: "{s.policy}"')
    flags = 0
    for flag in s.flags:
        if flag not in process.SCHEDULER_FLAGS:
            raise InvalidArgument(f'invalid scheduler flag: "{flag}"')
        flags |= process.SCHEDULER_FLAGS[flag]
    return policy, flags, s.nice, s.priority, s.runtime, s.deadline, s.period


def _io_priority(wanted: Process) -> tuple[int, int] | None:
    if wanted.io_priority is None:
        return None
    io_class = process.IOPRIO_CLASSES.get(wanted.io_priority.cls)
    if io_class is None:
        raise InvalidArgument(f'invalid ioPriority.class: "{wanted.io_priority.cls}"')
    if not 0 <= wanted.io_priority.priority <= 7:
        raise InvalidArgument(f"invalid ioPriority.Priority: {wanted.io_priority.priority}")
    return io_class, wanted.io_priority.priority


def _personality(wanted: LinuxPersonality | None) -> int | None:
    if wanted is None:
        return None
    if wanted.domain not in process.PERSONALITIES:
        raise InvalidArgument(f'invalid personality domain: "{wanted.domain}"')
    if wanted.flags:
        raise InvalidArgument("unsupported personality flag: no flags are defined")
    return process.PERSONALITIES[wanted.domain]


# --- inside the container --------------------------------------------------------------------


def connect(program: Program, slave: int) -> None:
    """Put the standard streams into place; a terminal becomes the controlling one."""
    if slave >= 0:
        terminal.verify_slave(slave)
        if program.rows or program.columns:
            terminal.set_window_size(slave, program.rows, program.columns)
        terminal.make_controlling(slave)
        streams = (slave, slave, slave)
    elif program.stdio is not None:
        streams = program.stdio
    else:
        return
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in streams]
    for number, fd in enumerate(parked):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)


def label(program: Program, proc: int) -> None:
    """Set the security labels of the next execve, through the verified procfs of the host."""
    if program.apparmor:
        value = b"exec " + program.apparmor
        try:
            paths.write_proc(proc, b"self/attr/apparmor/exec", value)
        except FileNotFoundError:
            paths.write_proc(proc, b"self/attr/exec", value)
    if program.selinux:
        paths.write_proc(proc, b"self/attr/exec", program.selinux)


def schedule(program: Program) -> None:
    """Set no_new_privs, scheduler, I/O priority and execution domain."""
    if program.no_new_privileges:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    try:
        if program.scheduler is not None:
            process.sched_setattr(*program.scheduler)
        if program.io_priority is not None:
            process.ioprio_set(*program.io_priority)
        if program.personality is not None:
            process.personality(program.personality)
    except OSError as error:
        raise InvalidArgument(f"error setting scheduling attributes: {reason(error)}") from None


def limit(program: Program) -> None:
    """Set the resource limits."""
    for number, soft, hard in program.rlimits:
        try:
            process.prlimit(0, number, (soft, hard))
        except OSError as error:
            raise InvalidArgument(f"error setting rlimit type {number}: {reason(error)}") from None


def load_filter(program: Program, channel: Channel) -> None:
    """Load the seccomp filter, and hand its listener to the supervisor if it has one."""
    if program.filter is None:
        return
    try:
        listener = program.filter.load()
    except OSError as error:
        raise InvalidArgument(f"unable to init seccomp: {reason(error)}") from None
    if program.filter.has_listener:
        channel.send(LISTENER, b"", listener)
        os.close(listener)


def drop_privileges(program: Program) -> None:
    """Become the user, enter the working directory, and keep only the wanted capabilities."""
    _own_streams(program)
    reached = _change_directory(program, late=False)
    if program.sets is not None:
        capabilities.drop_bounding(program.sets.bounding)
    capabilities.keepcaps(True)
    if program.may_set_groups:
        os.setgroups(program.groups)
    try:
        process.setresgid(program.gid)
        process.setresuid(program.uid)
    except OSError as error:
        raise InvalidArgument(
            f"unable to become uid {program.uid}, gid {program.gid}: {reason(error)}"
        ) from None
    if not reached:
        _change_directory(program, late=True)
    verify_cwd()
    capabilities.keepcaps(False)
    if program.sets is not None:
        capabilities.apply(program.sets)


def _own_streams(program: Program) -> None:
    """Give the streams to the user, so that it can open /dev/stdout; never the host's /dev/null."""
    for fd in (0, 1, 2):
        try:
            status = os.fstat(fd)
            is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
            if not is_null and status.st_uid != program.uid:
                os.fchown(fd, program.uid, status.st_gid)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EINVAL, errno.EPERM, errno.EROFS):
                raise


def _change_directory(program: Program, *, late: bool) -> bool:
    """Enter the working directory: before the change of user, or after it if that was refused."""
    try:
        os.chdir(program.cwd)
    except OSError as error:
        if error.errno == errno.EACCES and not late:
            return False
        where = program.cwd.decode("utf-8", "replace")
        raise InvalidArgument(
            f'chdir to cwd ("{where}") set in config.json failed: {reason(error)}'
        ) from None
    return True


def verify_cwd() -> None:
    """Refuse to run with a working directory outside the root (CVE-2024-21626).

    The kernel answers ENOENT, or a path that does not start with /, for such a directory.
    """
    try:
        inside = os.getcwdb().startswith(b"/")
    except FileNotFoundError:
        inside = False
    if not inside:
        raise InvalidArgument(
            "current working directory is outside of container mount namespace root -- "
            "possible container breakout detected"
        )


def look_up(program: Program) -> bytes:
    """Return the path of the program as execvp would find it, or raise in Docker's words."""
    name = program.argv[0]
    shown = name.decode("utf-8", "replace")
    if b"/" in name:
        failure = _is_executable(name)
        if failure == 0:
            return name
        if failure in (errno.ENOENT, errno.ENOTDIR):
            text = "no such file or directory" if failure == errno.ENOENT else "not a directory"
            raise CommandNotFound(f'exec: "{shown}": stat {shown}: {text}')
        text = "is a directory" if failure == errno.EISDIR else "permission denied"
        raise CommandNotExecutable(f'exec: "{shown}": {text}')
    for folder in program.env.get(b"PATH", DEFAULT_PATH).split(b":"):
        candidate = folder + b"/" + name
        if folder.startswith(b"/") and _is_executable(candidate) == 0:
            return candidate
    raise CommandNotFound(f'exec: "{shown}": executable file not found in $PATH')


def _is_executable(path: bytes) -> int:
    """Return 0, or the error number that says why a path cannot be executed."""
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno or errno.EACCES
    if stat.S_ISDIR(status.st_mode):
        return errno.EISDIR
    if not status.st_mode & 0o111 or not os.access(path, os.X_OK, effective_ids=True):
        return errno.EACCES
    return 0


def arrange(program: Program, channel: Channel, kept: int = -1) -> int:
    """Put the passed descriptors to 3, 4 … and close everything else of ours and of the host.

    Only the channel and `kept` stay, close-on-exec; returns the new number of the latter. Before
    the limits are set: a small RLIMIT_NOFILE must not stop us.
    """
    first = 3 + len(program.pass_fds)
    wanted = [*program.pass_fds, channel.fileno(), *([kept] if kept >= 0 else [])]
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in wanted]
    for place, fd in enumerate(parked):
        os.dup2(fd, 3 + place, inheritable=3 + place < first)
    channel.rebind(first)
    process.close_range(3 + len(wanted))
    return first + 1 if kept >= 0 else -1


def execute(program: Program, path: bytes, last: int) -> NoReturn:
    """Execute the program, with its own descriptors and no others (CVE-2024-21626).

    What is left up to the descriptor `last` is the program's or close-on-exec: the supervisor sees
    from the end of the channel that the execution succeeded. Raises CommandNotFound or
    CommandNotExecutable.
    """
    process.close_range(last + 1)
    env = program.env
    if program.listen_fds and program.pass_fds:
        env[b"LISTEN_FDS"] = b"%d" % len(program.pass_fds)
        env[b"LISTEN_PID"] = b"%d" % os.getpid()
    try:
        os.execve(path, program.argv, env)  # noqa: S606 - the container's program
    except OSError as error:
        kind = CommandNotFound if error.errno == errno.ENOENT else CommandNotExecutable
        raise kind(f"exec {path.decode('utf-8', 'replace')}: {reason(error)}") from None


def set_home(program: Program, root: int) -> None:
    """Set HOME, if it is not set, to that of the user in the passwd file of the image."""
    if b"HOME" in program.env:
        return
    try:
        home = users.resolve(str(program.uid), users.read(root, "etc/passwd"), b"").home
    except (InvalidArgument, OSError):
        home = "/"
    program.env[b"HOME"] = home.encode("utf-8", "surrogateescape")


def open_terminal(devpts: int, root: int) -> tuple[int, int]:
    """Return (master, slave) of a terminal of the container's own devpts.

    `devpts` is a descriptor of that mount; without it (-1) the one in `root` is searched.
    """
    try:
        if devpts >= 0:
            ptmx = os.open(b"ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts)
        else:
            ptmx = paths.open_in_root(root, b"/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        terminal.verify_ptmx(ptmx)
        return terminal.open_pty(ptmx)
    except OSError as error:
        raise InvalidArgument(f"cannot open a terminal of the container: {reason(error)}") from None
