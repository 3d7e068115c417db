"""Capability sets of a process: names and bits, capget, capset, bounding and ambient sets.

Names are the kernel's (`CAP_NET_RAW`); sets travel as integers, bit n for capability n, so a
forked child applies them without looking anything up. See capabilities(7).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sampan.linux.libc import NR, syscall
from sampan.spec.runtime import LinuxCapabilities

#: In the order of linux/capability.h: the place is the number.
NAMES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
_NUMBERS: Final = {name: number for number, name in enumerate(NAMES)}

_VERSION_3: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, linux/capability.h
PR_SET_KEEPCAPS: Final = 8  # linux/prctl.h, as those below
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class CapabilitySets:
    """The five sets, as bits."""

    bounding: int = 0
    effective: int = 0
    inheritable: int = 0
    permitted: int = 0
    ambient: int = 0


@functools.cache
def last() -> int:
    """Return the number of the last capability that this kernel knows."""
    number = 0
    while True:
        try:
            syscall(NR["prctl"], PR_CAPBSET_READ, number + 1)
        except OSError:
            return number
        number += 1


def bits(names: Iterable[str]) -> tuple[int, list[str]]:
    """Return the set of `names` and the names that this kernel does not know."""
    known, unknown = 0, []
    for name in names:
        number = _NUMBERS.get(name)
        if number is None or number > last():
            unknown.append(name)
        else:
            known |= 1 << number
    return known, unknown


def names(capabilities: int) -> list[str]:
    """Return the names of a set, in the order of their numbers; unnamed ones are left out."""
    return [name for number, name in enumerate(NAMES) if capabilities >> number & 1]


def all_names() -> list[str]:
    """Return the names of every capability that this kernel knows."""
    return names((2 << last()) - 1)


def sets(wanted: LinuxCapabilities) -> tuple[CapabilitySets, list[str]]:
    """Compile the five lists of a specification; also return the names that are unknown here."""
    missing: list[str] = []
    values = []
    for listed in (
        wanted.bounding,
        wanted.effective,
        wanted.inheritable,
        wanted.permitted,
        wanted.ambient,
    ):
        known, unknown = bits(listed)
        values.append(known)
        missing += [name for name in unknown if name not in missing]
    return CapabilitySets(*values), missing


def capget(pid: int = 0) -> CapabilitySets:
    """Return effective, permitted and inheritable set of a process (0: the calling one)."""
    header, data = _Header(_VERSION_3, pid), (_Data * 2)()
    syscall(NR["capget"], ctypes.byref(header), ctypes.byref(data))
    low, high = data
    return CapabilitySets(
        effective=low.effective | high.effective << 32,
        permitted=low.permitted | high.permitted << 32,
        inheritable=low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the three sets of the calling thread; raises OSError (EPERM)."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    for place, half in enumerate(data):
        shift = 32 * place
        half.effective = effective >> shift & 0xFFFFFFFF
        half.permitted = permitted >> shift & 0xFFFFFFFF
        half.inheritable = inheritable >> shift & 0xFFFFFFFF
    syscall(NR["capset"], ctypes.byref(header), ctypes.byref(data))


def bounding() -> int:
    """Return the bounding set of the calling thread."""
    value = 0
    for number in range(last() + 1):
        value |= syscall(NR["prctl"], PR_CAPBSET_READ, number) << number
    return value


def drop_bounding(keep: int) -> None:
    """Remove everything but `keep` from the bounding set; needs CAP_SETPCAP for what is there.

    Source: prctl(2), PR_CAPBSET_DROP. What is not in the set any more is passed over.
    """
    prctl = NR["prctl"]
    for number in range(last() + 1):
        if not keep >> number & 1 and syscall(prctl, PR_CAPBSET_READ, number):
            syscall(prctl, PR_CAPBSET_DROP, number)


def keepcaps(keep: bool) -> None:
    """Keep, or not, the permitted set when all user ids become non-zero."""
    syscall(NR["prctl"], PR_SET_KEEPCAPS, int(keep))


def set_ambient(capabilities: int) -> None:
    """Replace the ambient set; a capability must be permitted and inheritable to be raised.

    Raises OSError (EPERM) for one that is not.
    """
    prctl = NR["prctl"]
    syscall(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(last() + 1):
        if capabilities >> number & 1:
            syscall(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def apply(wanted: CapabilitySets) -> None:
    """Set effective, permitted and inheritable to what is wanted and held, then the ambient set.

    Call after the change of user ids (with `keepcaps`) and after `drop_bounding`. Capabilities
    that the caller does not hold are left out, as runc and Docker do; ask `capget` beforehand to
    warn about them.
    """
    held = capget().permitted
    permitted = wanted.permitted & held
    effective = wanted.effective & permitted
    inheritable = wanted.inheritable & (held | permitted)
    capset(effective, permitted, inheritable)
    set_ambient(wanted.ambient & permitted & inheritable)
