"""The C library and raw system calls: one CDLL, numbers by machine, results to OSError.

Other modules of `sampan.linux` declare nothing of their own: they call `libc.<function>` for what
the C library wraps and `syscall(NR[...], ...)` for what it does not. Loaded once, in the parent;
a forked child may use it at any time, nothing here imports or looks anything up on use.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

libc: Final = ctypes.CDLL(None, use_errno=True)

# Source: arch/x86/entry/syscalls/syscall_64.tbl
_X86_64: Final = {
    "ioctl": 16,
    "clone": 56,
    "setgroups": 116,
    "setresuid": 117,
    "setresgid": 119,
    "setfsuid": 122,
    "setfsgid": 123,
    "capget": 125,
    "capset": 126,
    "personality": 135,
    "pivot_root": 155,
    "prctl": 157,
    "mount": 165,
    "umount2": 166,
    "sethostname": 170,
    "setdomainname": 171,
    "gettid": 186,
    "io_setup": 206,
    "io_destroy": 207,
    "io_getevents": 208,
    "io_submit": 209,
    "getdents64": 217,
    "exit_group": 231,
    "add_key": 248,
    "keyctl": 250,
    "ioprio_set": 251,
    "openat": 257,
    "mknodat": 259,
    "unshare": 272,
    "prlimit64": 302,
    "name_to_handle_at": 303,
    "setns": 308,
    "kcmp": 312,
    "sched_setattr": 314,
    "renameat2": 316,
    "seccomp": 317,
    "memfd_create": 319,
    "bpf": 321,
    "execveat": 322,
    "copy_file_range": 326,
    "statx": 332,
}

# Source: include/uapi/asm-generic/unistd.h
_AARCH64: Final = {
    "io_setup": 0,
    "io_destroy": 1,
    "io_submit": 2,
    "io_getevents": 4,
    "ioctl": 29,
    "ioprio_set": 30,
    "mknodat": 33,
    "umount2": 39,
    "mount": 40,
    "pivot_root": 41,
    "openat": 56,
    "getdents64": 61,
    "capget": 90,
    "capset": 91,
    "personality": 92,
    "exit_group": 94,
    "unshare": 97,
    "setresuid": 147,
    "setresgid": 149,
    "setfsuid": 151,
    "setfsgid": 152,
    "setgroups": 159,
    "sethostname": 161,
    "setdomainname": 162,
    "prctl": 167,
    "gettid": 178,
    "add_key": 217,
    "keyctl": 219,
    "clone": 220,
    "prlimit64": 261,
    "name_to_handle_at": 264,
    "setns": 268,
    "kcmp": 272,
    "sched_setattr": 274,
    "renameat2": 276,
    "seccomp": 277,
    "memfd_create": 279,
    "bpf": 280,
    "execveat": 281,
    "copy_file_range": 285,
    "statx": 291,
}

# Since Linux 5.1 every machine numbers new calls alike.
_ALIKE: Final = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "faccessat2": 439,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "fchmodat2": 452,
    "statmount": 457,
    "listmount": 458,
    "open_tree_attr": 467,
}

MACHINE: Final = os.uname().machine
_MACHINES: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}

#: System call numbers of this machine, by name.
NR: Final[dict[str, int]] = {**_MACHINES.get(MACHINE, {}), **_ALIKE}

_syscall: Final = libc.syscall
_syscall.restype = ctypes.c_long
# void * takes integers of 64 bits (negative ones too), bytes, buffers, byref() and None.
_syscall.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 6


def check(result: int, *about: object) -> int:
    """Return `result`, or raise OSError for errno if it is -1.

    `about` names what was worked on (at most two, as file names in the error).
    """
    if result == -1:
        raise error(ctypes.get_errno(), *about)
    return result


def error(number: int, *about: object) -> OSError:
    """Return the OSError (of the fitting subclass) for errno `number`."""
    names = [os.fsdecode(name) if isinstance(name, bytes) else str(name) for name in about]
    if len(names) > 1:
        return OSError(number, os.strerror(number), names[0], None, names[1])
    return OSError(number, os.strerror(number), *names)


def syscall(
    number: int, a: Any = 0, b: Any = 0, c: Any = 0, d: Any = 0, e: Any = 0, f: Any = 0
) -> int:
    """Make a system call; raises OSError.

    Arguments are integers, None for NULL, bytes or buffers for pointers, `ctypes.byref(struct)`.
    """
    result: int = _syscall(number, a, b, c, d, e, f)
    if result == -1:
        raise error(ctypes.get_errno())
    return result
