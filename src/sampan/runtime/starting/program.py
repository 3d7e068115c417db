"""The process of a specification, checked and encoded before any root is entered."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sampan.errors import InvalidArgument
from sampan.linux import capabilities, process, seccomp, users
from sampan.linux.users import MAX_ID
from sampan.runtime.roots.null import null_for
from sampan.spec.runtime import LinuxPersonality, Process

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INFINITY = (1 << 64) - 1
#: Says Y if AppArmor is on; its folder is there even after a start with apparmor=0.
APPARMOR_SWITCH = "/sys/module/apparmor/parameters/enabled"
SELINUX_SWITCH = "/sys/fs/selinux/enforce"


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
    null: int = -1  # takes the place of a stream that is the host's /dev/null


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
    _check(wanted)
    user, size = wanted.user, wanted.console_size
    warnings: list[str] = []
    program = Program(
        argv=[_encode(item, "argument") for item in wanted.args],
        env=_environment(wanted.env),
        cwd=_encode(wanted.cwd, "working directory"),
        uid=user.uid,
        gid=user.gid,
        groups=list(user.additional_gids),
        umask=0o022 if user.umask is None else user.umask & 0o777,
        sets=_capability_sets(wanted, warnings),
        rlimits=_rlimits(wanted, warnings),
        no_new_privileges=wanted.no_new_privileges,
        filter=filter.prepare() if filter else None,
        apparmor=_apparmor(wanted.apparmor_profile, warnings),
        selinux=_selinux(wanted.selinux_label, warnings),
        scheduler=_scheduler(wanted),
        io_priority=_io_priority(wanted),
        personality=_personality(personality),
        terminal=wanted.terminal,
        rows=size.height if size else 0,
        columns=size.width if size else 0,
        stdio=stdio,
        pass_fds=pass_fds,
        listen_fds=listen_fds,
        null=-1 if wanted.terminal else null_for(stdio or (0, 1, 2)),
    )
    return program, warnings


def _check(wanted: Process) -> None:
    if not wanted.args or not wanted.args[0]:
        raise InvalidArgument("args must not be empty")
    if not wanted.cwd.startswith("/"):
        raise InvalidArgument(f"Cwd must be an absolute path: {wanted.cwd!r}")
    user = wanted.user
    for number in (user.uid, user.gid, *user.additional_gids):
        if not 0 <= number <= MAX_ID:
            raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}")


def _capability_sets(wanted: Process, warnings: list[str]) -> capabilities.CapabilitySets | None:
    if wanted.capabilities is None:
        return None
    sets, unknown = capabilities.sets(wanted.capabilities)
    if unknown:
        warnings.append(f"ignoring unknown or unavailable capabilities: {', '.join(unknown)}")
    return sets


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


def _apparmor(profile: str, warnings: list[str]) -> bytes:
    if not profile:
        return b""
    if not _is_yes(APPARMOR_SWITCH):
        if profile != "unconfined":
            warnings.append(f"AppArmor is not on: the profile {profile} is ignored")
        return b""
    return _encode(profile, "AppArmor profile")


def _selinux(label: str, warnings: list[str]) -> bytes:
    if label and not os.path.exists(SELINUX_SWITCH):
        warnings.append(f"this kernel has no SELinux: the label {label} is ignored")
        return b""
    return _encode(label, "SELinux label")


def _is_yes(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(1) == b"Y"
    except OSError:
        return False


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


def cpu_list(text: str) -> set[int]:
    """Return the CPUs of a list like `0-3,7`; raises InvalidArgument."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 1 << 16):
            raise InvalidArgument(f'invalid CPU list "{text}"')
        cpus.update(range(int(first), int(last) + 1))
    return cpus


def set_home(program: Program, root: int) -> None:
    """Set HOME, if it is not set, to that of the user in the passwd file of the image."""
    if b"HOME" in program.env:
        return
    try:
        home = users.resolve(str(program.uid), users.read(root, "etc/passwd"), b"").home
    except (InvalidArgument, OSError):
        home = "/"
    program.env[b"HOME"] = home.encode("utf-8", "surrogateescape")
