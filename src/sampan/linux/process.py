"""Attributes of the calling process: prctl(2), limits, scheduling, keyrings, execveat(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from typing import Final

from sampan.linux.libc import NR, libc, syscall

_signal: Final = libc["signal"]
_signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
_signal.restype = ctypes.c_void_p

# linux/prctl.h
PR_SET_PDEATHSIG: Final = 1
PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_SET_NAME: Final = 15
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

CLOSE_RANGE_CLOEXEC: Final = 4  # linux/close_range.h
LAST_FD: Final = (1 << 32) - 1
_NO_ID: Final = (1 << 32) - 1  # (uid_t) -1

# linux/keyctl.h
KEYCTL_JOIN_SESSION_KEYRING: Final = 1
KEYCTL_DESCRIBE: Final = 6
KEYCTL_SETPERM: Final = 5

# asm-generic/resource.h; the same on x86_64 and aarch64
RLIMITS: Final[dict[str, int]] = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

# linux/sched.h
SCHEDULERS: Final[dict[str, int]] = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS: Final[dict[str, int]] = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

# linux/ioprio.h
IOPRIO_CLASSES: Final[dict[str, int]] = {
    "IOPRIO_CLASS_RT": 1,
    "IOPRIO_CLASS_BE": 2,
    "IOPRIO_CLASS_IDLE": 3,
}
IOPRIO_CLASS_SHIFT: Final = 13
IOPRIO_WHO_PROCESS: Final = 1

# linux/personality.h
PERSONALITIES: Final[dict[str, int]] = {"LINUX": 0x0000, "LINUX32": 0x0008}


class _Rlimit64(ctypes.Structure):
    _fields_ = (("rlim_cur", ctypes.c_uint64), ("rlim_max", ctypes.c_uint64))


class _SchedAttr(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


def prctl(option: int, argument: int = 0) -> int:
    """Call prctl(2) with one argument."""
    return syscall(NR["prctl"], option, argument, 0, 0, 0)


def close_range(first: int, last: int = LAST_FD, flags: int = 0) -> None:
    """Close descriptors, or with CLOSE_RANGE_CLOEXEC mark them."""
    syscall(NR["close_range"], first, last, flags)


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor above 2 that is not among these."""
    first = 3
    for fd in sorted(kept):
        if fd > first:
            close_range(first, fd - 1)
        first = max(first, fd + 1)
    close_range(first)


def prlimit(pid: int, resource: int, new: tuple[int, int] | None = None) -> tuple[int, int]:
    """Set a limit if `new` (soft, hard) is given; return what it was. 0 is the caller."""
    limit = _Rlimit64(*new) if new else None
    old = _Rlimit64()
    pointer = ctypes.byref(limit) if limit is not None else None
    syscall(NR["prlimit64"], pid, resource, pointer, ctypes.byref(old))
    return int(old.rlim_cur), int(old.rlim_max)


def join_session_keyring(name: bytes) -> int:
    """Join a session keyring of this name, made if need be; return its serial number."""
    return syscall(NR["keyctl"], KEYCTL_JOIN_SESSION_KEYRING, name)


def keyring_permissions(serial: int) -> int:
    """Return the permission mask of a key."""
    buffer = ctypes.create_string_buffer(1024)
    length = syscall(NR["keyctl"], KEYCTL_DESCRIBE, serial, buffer, len(buffer))
    return int(buffer.raw[:length].split(b";")[3], 16)  # keyring;uid;gid;permissions;name


def set_keyring_permissions(serial: int, mask: int) -> None:
    """Set the permission mask of a key."""
    syscall(NR["keyctl"], KEYCTL_SETPERM, serial, mask)


def sched_setattr(
    policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """Set the scheduling policy of the caller; times are nanoseconds."""
    size = ctypes.sizeof(_SchedAttr)
    attributes = _SchedAttr(size, policy, flags, nice, priority, runtime, deadline, period)
    syscall(NR["sched_setattr"], 0, ctypes.byref(attributes), 0)


def ioprio_set(io_class: int, level: int) -> None:
    """Set the I/O priority of the caller."""
    syscall(NR["ioprio_set"], IOPRIO_WHO_PROCESS, 0, (io_class << IOPRIO_CLASS_SHIFT) | level)


def personality(persona: int) -> None:
    """Set the execution domain of the caller."""
    syscall(NR["personality"], persona)


def setresuid(uid: int) -> None:
    """Set real, effective and saved user id of the caller."""
    syscall(NR["setresuid"], uid, uid, uid)


def setresgid(gid: int) -> None:
    """Set real, effective and saved group id of the caller."""
    syscall(NR["setresgid"], gid, gid, gid)


def setfsuid(uid: int) -> None:
    """Set the user id of the calling thread that counts for files; raises PermissionError."""
    _set_file_id("setfsuid", uid)


def setfsgid(gid: int) -> None:
    """Set the group id of the calling thread that counts for files; raises PermissionError."""
    _set_file_id("setfsgid", gid)


def _set_file_id(call: str, number: int) -> None:
    """The calls report no error: asked for an id that none can be, they tell the current one."""
    syscall(NR[call], number)
    if syscall(NR[call], _NO_ID) != number:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def execveat(fd: int, argv: list[bytes], envp: list[bytes]) -> None:
    """Execute the file of a descriptor; returns only by raising OSError."""
    arguments = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    environment = (ctypes.c_char_p * (len(envp) + 1))(*envp, None)
    syscall(NR["execveat"], fd, b"", arguments, environment, 0x1000)  # AT_EMPTY_PATH


def default_signals() -> None:
    """Give every signal its default action and block none, as a new program expects it.

    Below Python's `signal` module: for a child that is about to execute something else.
    """
    for number in range(1, 65):  # SIGKILL and SIGSTOP refuse, which is as well
        _signal(number, None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks after boot; raises FileNotFoundError.

    With the pid it names a process for ever. Source: proc(5), field 22 of /proc/PID/stat.
    """
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        stat = os.read(fd, 4096)
    finally:
        os.close(fd)
    return int(stat[stat.rindex(b")") + 2 :].split()[19])
