"""Seccomp filters: from the OCI document to BPF, and into the kernel.

`compile_filter` uses libseccomp and is expensive (10 to 40 ms for Docker's default profile); its
results are kept by content, in memory and, on request, on disk. `Filter.load` is one system call
on a buffer that was prepared before the fork: it imports and looks up nothing.

Two things libseccomp does not do are put in front of its program. System calls that are newer than
the library but named in the profile get their action by number. And calls newer than everything
that the profile names fail with ENOSYS, not with the default action, so that C libraries fall back
to the older call (as runc does since 1.0-rc93). Source: seccomp(2), libseccomp, runc patchbpf.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sampan.errors import InvalidArgument
from sampan.linux.libc import NR, syscall
from sampan.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall, State

SECCOMP_SET_MODE_FILTER: Final = 1  # linux/seccomp.h
_NEW_LISTENER: Final = 1 << 3
_TSYNC_ESRCH: Final = 1 << 4
_FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}

_ACTIONS: Final = {  # SECCOMP_RET_*, linux/seccomp.h; those in _WITH_DATA carry 16 bits more
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA: Final = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_OPERATORS: Final = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

_ARCHITECTURES: Final = (  # those that libseccomp 2.5 knows by our way of calling it
    *("AARCH64", "ARM", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
    *("PARISC", "PARISC64", "PPC", "PPC64", "PPC64LE", "RISCV64", "S390", "S390X"),
    *("X32", "X86", "X86_64"),
)

_UNKNOWN_ARCHITECTURES: Final = ("LOONGARCH64", "M68K", "SH", "SHEB")  # of runtime-spec, to us

# Calls that libseccomp 2.5 has no name for; every architecture numbers them alike.
_NEWER: Final = {
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
    "listns": 470,
}
_FIRST_COMMON: Final = 424  # pidfd_send_signal: from here numbers are the same everywhere
_X32_BIT: Final = 0x40000000
_MAX_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS, linux/bpf_common.h
# What could never fit is not given to libseccomp, which would think about 20,000 of them for a
# minute: a comparison takes three instructions at least.
_MAX_COMPARISONS: Final = _MAX_INSTRUCTIONS // 3
_MAX_NAMES: Final = 16384

# Classic BPF, linux/bpf_common.h
_LD_ABS: Final = 0x20
_JEQ: Final = 0x15
_JGT: Final = 0x25
_JGE: Final = 0x35
_RET: Final = 0x06


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter and how it is loaded."""

    code: bytes
    flags: int = 0
    has_listener: bool = False  # `load` returns a notification descriptor

    def __post_init__(self) -> None:
        if not self.code or len(self.code) % 8 or len(self.code) // 8 > _MAX_INSTRUCTIONS:
            raise InvalidArgument("the seccomp filter has no instructions, or too many")

    def prepare(self) -> Prepared:
        """Return the filter in the form the kernel takes; do this before the fork."""
        return Prepared(self)


class Prepared:
    """A filter in memory, ready for one system call in a forked child."""

    def __init__(self, compiled: Filter) -> None:
        self.has_listener = compiled.has_listener
        self._flags = compiled.flags | (_NEW_LISTENER if compiled.has_listener else 0)
        if self._flags & 1 and compiled.has_listener:
            self._flags |= _TSYNC_ESRCH
        self._code = ctypes.create_string_buffer(compiled.code, len(compiled.code))
        self._program = _Program(len(compiled.code) // 8, ctypes.addressof(self._code))
        self._argument = ctypes.byref(self._program)
        self._number = NR["seccomp"]

    def load(self) -> int:
        """Filter the calling thread from now on; returns the listener's descriptor or 0.

        Needs no_new_privs or CAP_SYS_ADMIN in the user namespace; raises OSError.
        """
        return syscall(self._number, SECCOMP_SET_MODE_FILTER, self._flags, self._argument)


def load(compiled: Filter) -> int:
    """Load a filter at once: `Prepared.load` for those who cannot prepare before the fork."""
    return compiled.prepare().load()


_compiled: dict[bytes, Filter] = {}


def compile_filter(profile: LinuxSeccomp, cache: str = "") -> tuple[Filter, list[str]]:
    """Compile a profile; also return warnings (architectures that libseccomp does not know).

    `cache` is a directory that only root can write: programs are kept there between processes.
    Raises InvalidArgument for a profile that is none.
    """
    flags, has_listener = check(profile)
    key = _digest(msgspec.json.encode(profile))
    if found := _compiled.get(key):
        return found, []
    if cache and (code := _cached(cache, key)):
        _compiled[key] = Filter(code, flags, has_listener)
        return _compiled[key], []
    code, warnings = _compile(profile)
    result = Filter(code, flags, has_listener)
    if len(_compiled) > 256:  # profiles come from requests: forget rather than grow
        _compiled.clear()
    _compiled[key] = result
    if cache and not warnings:
        _keep(cache, key, code)
    return result, warnings


def check(profile: LinuxSeccomp) -> tuple[int, bool]:
    """Check all of a profile that needs no library; return its flags, and whether it notifies.

    Raises InvalidArgument, in runc's words where it has some.
    """
    for name in profile.architectures:
        if name.removeprefix("SCMP_ARCH_") not in (*_ARCHITECTURES, *_UNKNOWN_ARCHITECTURES):
            raise InvalidArgument(f"string {name} is not a valid arch for seccomp")
    action(profile.default_action, profile.default_errno_ret)
    for rule in profile.syscalls:
        action(rule.action, rule.errno_ret)
        if not rule.names or not all(rule.names):
            raise InvalidArgument("a seccomp rule names no system call")
        for argument in rule.args:
            _check_argument(argument)
    plain = sum(len(rule.names) for rule in profile.syscalls if not rule.args)
    compared = sum(len(rule.names) * len(rule.args) for rule in profile.syscalls)
    if plain > _MAX_NAMES or compared > _MAX_COMPARISONS:
        raise InvalidArgument("the seccomp profile has more rules than a filter can have")
    return _flags(profile), _has_listener(profile)


def _check_argument(argument: LinuxSeccompArg) -> None:
    if argument.op not in _OPERATORS:
        raise InvalidArgument(f"string {argument.op} is not a valid operator for seccomp")
    if not 0 <= argument.index <= 5:
        raise InvalidArgument("seccomp argument index must be between 0 and 5")
    if any(not 0 <= number < 1 << 64 for number in (argument.value, argument.value_two)):
        raise InvalidArgument("seccomp argument values must be unsigned 64-bit numbers")


def _digest(content: bytes) -> bytes:
    import hashlib  # brings OpenSSL, which those without a filter do not need

    return hashlib.sha256(content).digest()


def _flags(profile: LinuxSeccomp) -> int:
    value = 0
    for flag in profile.flags:
        if flag not in _FLAGS:
            raise InvalidArgument(f"seccomp flag {flag!r} not known")
        value |= _FLAGS[flag]
    return value


def _has_listener(profile: LinuxSeccomp) -> bool:
    notify = "SCMP_ACT_NOTIFY"
    if profile.default_action == notify:
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used as default action")
    used = any(rule.action == notify for rule in profile.syscalls)
    if used and not profile.listener_path:
        raise InvalidArgument("seccomp listenerPath is not set but SCMP_ACT_NOTIFY is used")
    if any(rule.action == notify and "write" in rule.names for rule in profile.syscalls):
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used for the write syscall")
    return used


def action(name: str, errno_ret: int | None) -> int:
    """Return the kernel's number for an action; raises InvalidArgument."""
    if name not in _ACTIONS:
        raise InvalidArgument(f"string {name} is not a valid action for seccomp")
    if name not in _WITH_DATA:
        if errno_ret is not None:
            raise InvalidArgument(f"seccomp action {name} takes no errnoRet")
        return _ACTIONS[name]
    data = errno.EPERM if errno_ret is None else errno_ret
    if not 0 <= data <= 0xFFFF:
        raise InvalidArgument(f"seccomp errnoRet {data} is out of range")
    return _ACTIONS[name] | data


# --- compiling ---------------------------------------------------------------------------------


def _compile(profile: LinuxSeccomp) -> tuple[bytes, list[str]]:
    import pyseccomp  # the library is looked up on disk: only those who compile pay for it

    default = action(profile.default_action, profile.default_errno_ret)
    warnings: list[str] = []
    built = pyseccomp.SyscallFilter(default)
    built.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    try:
        built.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)  # a binary tree, since libseccomp 2.5
    except OSError:
        pass
    architectures = [pyseccomp.system_arch()]
    for name in profile.architectures:
        short = name.removeprefix("SCMP_ARCH_")
        if short not in _ARCHITECTURES:
            warnings.append(f"seccomp architecture {name} is not known to libseccomp")
            continue
        known = getattr(pyseccomp.Arch, short)
        if known not in architectures:
            built.add_arch(known)
            architectures.append(known)
    newer: dict[int, int] = {}
    highest = 0
    for rule in profile.syscalls:
        does = action(rule.action, rule.errno_ret)
        highest = max(highest, _add(pyseccomp, built, rule, does, default, newer))
    if default in (_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"]):
        return _exported(built), warnings
    # Below the common numbers each architecture has its own order: those keep the default.
    front = _front(architectures, newer, max(highest, _FIRST_COMMON - 1))
    return front + _exported(built), warnings


def _add(
    library: Any,
    built: Any,
    rule: LinuxSyscall,
    does: int,
    default: int,
    newer: dict[int, int],
) -> int:
    """Add one rule; return the highest number among its calls."""
    conditions = _conditions(library, rule)
    highest = 0
    for name in rule.names:
        number = library.resolve_syscall(library.Arch.NATIVE, name)
        if number == -1:  # __NR_SCMP_ERROR
            if name in _NEWER and not rule.args:
                highest = max(highest, _NEWER[name])
                if does != default:
                    newer[_NEWER[name]] = does
            continue
        highest = max(highest, number)
        if does == default:
            continue  # libseccomp refuses such a rule
        for arguments in conditions:
            try:
                built.add_rule(does, number, *arguments)
            except OSError as failure:
                if failure.errno != errno.EEXIST:
                    text = os.strerror(failure.errno or 0)
                    raise InvalidArgument(f"seccomp rule for {name}: {text}") from None
    return highest


def _conditions(library: Any, rule: LinuxSyscall) -> list[list[Any]]:
    """Return the argument lists of a rule: conditions on the same argument are alternatives."""
    arguments = []
    for argument in rule.args:
        _check_argument(argument)
        operator, numbers = _OPERATORS[argument.op], (argument.value, argument.value_two)
        arguments.append(library.Arg(argument.index, operator, *numbers))
    indexes = {argument.index for argument in rule.args}
    if len(indexes) < len(rule.args):
        return [[argument] for argument in arguments]
    return [arguments]


def _exported(built: Any) -> bytes:
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "rb") as file:
        built.export_bpf(file)
        file.seek(0)
        return file.read()


def _statement(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _front(architectures: Iterable[int], newer: dict[int, int], highest: int) -> bytes:
    """Return what goes before libseccomp's program; it falls through to it (see the module)."""
    families = [each for each in architectures if each & 0xFFFF != 8]  # MIPS numbers differently
    if not families:
        return b""
    body = [_statement(_LD_ABS, 0)]  # seccomp_data.nr
    tests = [
        _statement(_JEQ, number, 0, 1) + _statement(_RET, does) for number, does in newer.items()
    ]
    unknown = _statement(_JGT, highest, 0, 1)
    unknown += _statement(_RET, _ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS)
    inside = b"".join(tests) + unknown
    skip = len(inside) // 8
    body.append(_statement(_JGE, _X32_BIT, skip, 0))
    body.append(inside)
    rest = b"".join(body)
    front = [_statement(_LD_ABS, 4)]  # seccomp_data.arch
    for place, architecture in enumerate(families):
        is_last = place == len(families) - 1
        to_body = len(families) - place - 1
        front.append(_statement(_JEQ, architecture, to_body, len(rest) // 8 if is_last else 0))
    return b"".join(front) + rest


# --- the cache on disk -------------------------------------------------------------------------


def _cache_name(key: bytes) -> str:
    machine = os.uname()
    salt = f"{machine.machine} {machine.release} 1".encode()  # what a program depends on besides
    return _digest(salt + key).hex() + ".bpf"


def _cached(cache: str, key: bytes) -> bytes | None:
    try:
        with open(os.path.join(cache, _cache_name(key)), "rb") as file:
            code = file.read(_MAX_INSTRUCTIONS * 8 + 1)
    except OSError:
        return None
    return code if code and len(code) % 8 == 0 and len(code) <= _MAX_INSTRUCTIONS * 8 else None


def _keep(cache: str, key: bytes, code: bytes) -> None:
    path = os.path.join(cache, _cache_name(key))
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(cache, mode=0o700, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(code)
        os.replace(temporary, path)
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else


# --- the listener ------------------------------------------------------------------------------


def send_listener(profile: LinuxSeccomp, state: State, pid: int, listener: int) -> None:
    """Hand the notification descriptor to the agent at `listener_path`; raises OSError.

    Source: runtime-spec config-linux.md, containerProcessState.
    """
    message = {
        "ociVersion": state.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": profile.listener_metadata,
        "state": msgspec.to_builtins(state),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(10)
        try:
            agent.connect(profile.listener_path)
        except OSError as failure:
            text = (failure.strerror or str(failure)).lower()
            raise InvalidArgument(f"seccomp listenerPath {profile.listener_path}: {text}") from None
        socket.send_fds(agent, [msgspec.json.encode(message)], [listener])


def features() -> dict[str, object]:
    """Return what filters may contain, as the `features` command of runtimes prints it."""
    return {
        "enabled": True,
        "actions": sorted(_ACTIONS),
        "operators": sorted(_OPERATORS),
        "archs": sorted(f"SCMP_ARCH_{name}" for name in _ARCHITECTURES),
        "knownFlags": sorted(_FLAGS),
        "supportedFlags": sorted(_FLAGS),
    }
