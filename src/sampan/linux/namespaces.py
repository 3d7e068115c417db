"""Namespaces, and processes made in them: clone3(2), setns(2), unshare(2), pidfds."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
from typing import Final

from sampan.linux.libc import NR, error, syscall

# linux/sched.h
CLONE_NEWTIME: Final = 0x00000080
CLONE_PIDFD: Final = 0x00001000
CLONE_PARENT: Final = 0x00008000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_INTO_CGROUP: Final = 0x200000000

#: OCI namespace type → (clone flag, name in /proc/PID/ns).
KINDS: Final[dict[str, tuple[int, str]]] = {
    "user": (CLONE_NEWUSER, "user"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "network": (CLONE_NEWNET, "net"),
    "pid": (CLONE_NEWPID, "pid"),
    "mount": (CLONE_NEWNS, "mnt"),
    "time": (CLONE_NEWTIME, "time"),
}


_ALL_IDS: Final = (0, 0, (1 << 32) - 1)  # what /proc/self/uid_map says in the first namespace


class _CloneArgs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in [
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        ]
    )


# Made with the interpreter's lock held, and without its fork handlers: see clone3.
_locked: Final = ctypes.PyDLL(None, use_errno=True)
_clone: Final = _locked.syscall
_clone.restype = ctypes.c_long
_clone.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t]


def clone3(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Fork into new namespaces; return (pid, pidfd) in the parent and (0, -1) in the child.

    With CLONE_PARENT in `flags` the child becomes a sibling. `cgroup`: descriptor of a v2
    directory to be born in. Raises OSError in the parent.

    The calling process must have a single thread. Then the handlers that os.fork() runs for locks
    held by other threads have nothing to do, and are left out: they touch 190 pages, which a
    child has to copy (0.6 ms, half of the price of a fork). The child may use all of Python but
    `random` and new threads, and ends with os._exit or execve.
    """
    pidfd = ctypes.c_int(-1)
    arguments = _CloneArgs(flags=flags | CLONE_PIDFD, pidfd=ctypes.addressof(pidfd))
    if not flags & CLONE_PARENT:
        arguments.exit_signal = signal.SIGCHLD
    if cgroup >= 0:
        arguments.flags |= CLONE_INTO_CGROUP
        arguments.cgroup = cgroup
    pid: int = _clone(NR["clone3"], ctypes.byref(arguments), ctypes.sizeof(arguments))
    if pid == 0:
        return 0, -1
    if pid < 0:
        raise error(ctypes.get_errno())
    return pid, pidfd.value


def is_single_threaded() -> bool:
    """Tell whether the calling process has one thread only."""
    return os.stat("/proc/self/task").st_nlink == 3  # ".", ".." and one


def unshare(flags: int) -> None:
    """Move the caller into new namespaces; for pid and time, its children."""
    syscall(NR["unshare"], flags)


def setns(fd: int, nstype: int = 0) -> None:
    """Join the namespace of a descriptor, or with a pidfd all those named by `nstype`."""
    syscall(NR["setns"], fd, nstype)


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Return a pidfd, close-on-exec."""
    return syscall(NR["pidfd_open"], pid, flags)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Send a signal to exactly this process."""
    syscall(NR["pidfd_send_signal"], pidfd, number, None, 0)


def wait_ended(pidfd: int, seconds: float) -> bool:
    """Wait until a process has ended (it may be a zombie still); tell whether it has."""
    poll = select.poll()  # not select(2), which knows no descriptor above 1023
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(int(seconds * 1000)))


_PIDFD_INFO: Final = struct.Struct("=QQ11Ii")  # struct pidfd_info: mask, …, exit_code; version 0
PIDFD_GET_INFO: Final = 0xC040FF0B  # linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), 64 bytes
PIDFD_INFO_EXIT: Final = 1 << 3  # since Linux 6.15


def pidfd_exit_status(pidfd: int) -> int | None:
    """Return the wait status of a process that has ended and been reaped, by whomever.

    None while it runs or is a zombie, or where the kernel (before 6.15) does not keep it.
    """
    info = bytearray(_PIDFD_INFO.pack(PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None
    mask, *_, status = _PIDFD_INFO.unpack(info)
    return status if mask & PIDFD_INFO_EXIT else None


def is_same(pid: int, kind: str) -> bool:
    """Tell whether process `pid` is in our own namespace of an OCI type.

    Raises ProcessLookupError if it has ended: a zombie is in no namespace any more.
    """
    name = KINDS[kind][1]
    try:
        ours = os.stat(f"/proc/self/ns/{name}")
    except FileNotFoundError:
        return True  # this kernel has no such namespaces
    try:
        theirs = os.stat(f"/proc/{pid}/ns/{name}")
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid)) from None
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def sethostname(name: bytes) -> None:
    """Set the host name of the current UTS namespace."""
    syscall(NR["sethostname"], name, len(name))


def setdomainname(name: bytes) -> None:
    """Set the NIS domain name of the current UTS namespace."""
    syscall(NR["setdomainname"], name, len(name))


def in_user_namespace() -> bool:
    """Tell whether this process is in a user namespace other than the first."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return tuple(map(int, file.read().split())) != _ALL_IDS
    except OSError:
        return False  # a kernel without user namespaces
