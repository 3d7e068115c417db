"""From inside the root to the program: streams, limits, privileges dropped in order, execve(2).

Shared by the init of a container and by exec. All of it runs where every file belongs to the
container, so it imports, encodes and looks up nothing: a `Program` brings all that is needed. The
order is that of runc's init: see docs/explanation/architecture/runtime.md.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import NoReturn

from sampan.errors import CommandNotExecutable, CommandNotFound, InvalidArgument
from sampan.linux import capabilities, paths, process, terminal
from sampan.runtime.roots.null import is_null, nothing_to_read, open_own_null
from sampan.runtime.starting.channel import LISTENER, Channel, reason
from sampan.runtime.starting.program import DEFAULT_PATH, Program

HIGH_FD = 256  # descriptors are parked from here on while 0, 1, 2, 3 … are put into place


def connect(program: Program, slave: int) -> None:
    """Put the standard streams into place; a terminal becomes the controlling one."""
    if slave >= 0:
        terminal.verify_slave(slave)
        if program.rows or program.columns:
            terminal.set_window_size(slave, program.rows, program.columns)
        terminal.make_controlling(slave)
        streams = (slave, slave, slave)
    else:
        streams = _without_null(program, program.stdio or (0, 1, 2))
        if streams == (0, 1, 2):
            return
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in streams]
    for number, fd in enumerate(parked):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)


def _without_null(program: Program, streams: tuple[int, int, int]) -> tuple[int, int, int]:
    """Replace the host's /dev/null, whose mode root in a container could change by its descriptor.

    Source: runc init_linux.go, reOpenDevNull.
    """
    if not any(is_null(fd) for fd in streams):
        return streams
    null = open_own_null()
    if null < 0:
        null = program.null
    stdin, *outputs = (null if null >= 0 and is_null(fd) else fd for fd in streams)
    if is_null(stdin) and null < 0:
        stdin = nothing_to_read()
    return stdin, outputs[0], outputs[1]


def label(program: Program, proc: int) -> None:
    """Set the security labels of the next execve, through the verified procfs of the host."""
    if program.apparmor:
        value = b"exec " + program.apparmor
        try:
            _write_profile(proc, value)
        except OSError as error:
            name = program.apparmor.decode("utf-8", "surrogateescape")
            why = "it is not loaded" if error.errno == errno.ENOENT else reason(error)
            raise InvalidArgument(
                "error during container init: unable to apply apparmor profile: "
                f"apparmor failed to apply profile: {name}: {why}"
            ) from None
    if program.selinux:
        try:
            paths.write_proc(proc, b"self/attr/exec", program.selinux)
        except OSError as error:
            name = program.selinux.decode("utf-8", "surrogateescape")
            raise InvalidArgument(
                f"error during container init: unable to apply SELinux label: {name}: "
                f"{reason(error)}"
            ) from None


def _write_profile(proc: int, value: bytes) -> None:
    try:
        paths.write_proc(proc, b"self/attr/apparmor/exec", value)
    except FileNotFoundError:  # before Linux 5.8; or the profile is not loaded, said twice
        paths.write_proc(proc, b"self/attr/exec", value)


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
            if not is_null(fd) and status.st_uid != program.uid:
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
    # access(2), not faccessat2(2): old seccomp profiles answer that with EPERM. Real and effective
    # ids are the same by now.
    if not status.st_mode & 0o111 or not os.access(path, os.X_OK):
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
    try:
        process.close_range(last + 1)
    except OSError as error:  # an old seccomp profile; `arrange` has closed everything before
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            raise
    env = program.env
    if program.listen_fds and program.pass_fds:
        env[b"LISTEN_FDS"] = b"%d" % len(program.pass_fds)
        env[b"LISTEN_PID"] = b"%d" % os.getpid()
    try:
        os.execve(path, program.argv, env)  # noqa: S606 - the container's program
    except OSError as error:
        kind = CommandNotFound if error.errno == errno.ENOENT else CommandNotExecutable
        raise kind(f"exec {path.decode('utf-8', 'replace')}: {reason(error)}") from None


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
