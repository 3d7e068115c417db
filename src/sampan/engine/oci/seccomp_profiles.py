"""Seccomp profiles: the one of a container, and files in Docker's JSON.

Source: moby daemon/seccomp_linux.go, moby/profiles seccomp.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence

import msgspec

from sampan.engine.host import go_architecture
from sampan.engine.oci.security import SecurityOptions
from sampan.errors import InvalidArgument
from sampan.linux.seccomp import check
from sampan.runtime.confinement.seccomp_profile import default_profile
from sampan.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

UNCONFINED, BUILTIN = "unconfined", "builtin"


def seccomp(
    options: SecurityOptions,
    names: Sequence[str],
    privileged: bool,
    *,
    sized: bool = False,
    default: str = "",
) -> LinuxSeccomp | None:
    """Return the filter of a container with the capabilities `names`; None for no filter.

    `sized`: a project limits what it writes. `default` is the daemon's profile for containers that
    name none. Raises InvalidArgument for a profile that is none.
    """
    wanted = options.seccomp or (UNCONFINED if privileged else default or BUILTIN)
    if wanted == UNCONFINED:
        return None
    if wanted == BUILTIN:
        return _default(tuple(sorted(names)), sized)
    return load_profile(wanted, frozenset(names))


@functools.lru_cache(16)
def _default(names: tuple[str, ...], sized: bool) -> LinuxSeccomp:
    return default_profile(go_architecture(), names, kernel_version(), sized=sized)


@functools.cache
def kernel_version() -> tuple[int, int]:
    """Return the first two numbers of the kernel's release."""
    major, minor, *_ = os.uname().release.split(".")
    digits = "".join(character for character in minor if character.isdigit())
    return int(major), int(digits or 0)


class _ArchitectureMap(msgspec.Struct, rename="camel"):
    architecture: str = ""
    sub_architectures: list[str] | None = None


class _Condition(msgspec.Struct, rename="camel"):
    caps: list[str] | None = None
    arches: list[str] | None = None
    min_kernel: str | None = None


class _Rule(msgspec.Struct, rename="camel"):
    names: list[str] | None = None
    name: str = ""
    action: str = ""
    errno_ret: int | None = None
    args: list[LinuxSeccompArg] | None = None
    includes: _Condition | None = None
    excludes: _Condition | None = None


class _Profile(msgspec.Struct, rename="camel"):
    default_action: str = ""
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    arch_map: list[_ArchitectureMap] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: list[_Rule] | None = None


_GO_NAMES = {
    "SCMP_ARCH_X86_64": "amd64",
    "SCMP_ARCH_X86": "386",
    "SCMP_ARCH_AARCH64": "arm64",
    "SCMP_ARCH_ARM": "arm",
    "SCMP_ARCH_RISCV64": "riscv64",
    "SCMP_ARCH_PPC64LE": "ppc64le",
    "SCMP_ARCH_S390X": "s390x",
}


@functools.lru_cache(32)
def load_profile(text: str, names: frozenset[str]) -> LinuxSeccomp | None:
    """Return the OCI filter of a profile in Docker's JSON; raises InvalidArgument.

    None for a profile that says nothing: no action and no rule.
    """
    try:
        profile = msgspec.json.decode(text, type=_Profile)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from error
    if not profile.default_action and not profile.syscalls:
        return None
    built = LinuxSeccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=_architectures(profile),
        flags=profile.flags or [],
        listener_path=profile.listener_path,
        listener_metadata=profile.listener_metadata,
        syscalls=list(_rules(profile, names)),
    )
    check(built)
    return built


def _architectures(profile: _Profile) -> list[str]:
    """Return those that the filter is for: named, or by the machine that this is."""
    if profile.architectures and profile.arch_map:
        raise InvalidArgument(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either "
            "'architectures' or 'archMap'"
        )
    found = list(profile.architectures or ())
    for each in profile.arch_map or ():
        if _GO_NAMES.get(each.architecture) == go_architecture():
            found = [each.architecture, *(each.sub_architectures or ())]
    return found


def _rules(profile: _Profile, names: frozenset[str]) -> Iterator[LinuxSyscall]:
    for rule in profile.syscalls or ():
        if rule.name and rule.names:
            raise InvalidArgument(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' "
                "or 'names'"
            )
        if _applies(rule, names):
            yield LinuxSyscall(
                names=rule.names or [rule.name],
                action=rule.action,
                errno_ret=rule.errno_ret,
                args=rule.args or [],
            )


def _applies(rule: _Rule, names: frozenset[str]) -> bool:
    architecture = go_architecture()
    if (no := rule.excludes) is not None and (
        architecture in (no.arches or ())
        or any(name in names for name in no.caps or ())
        or (no.min_kernel and kernel_version() >= _kernel(no.min_kernel))
    ):
        return False
    yes = rule.includes or _Condition()
    return (
        (not yes.arches or architecture in yes.arches)
        and all(name in names for name in yes.caps or ())
        and (not yes.min_kernel or kernel_version() >= _kernel(yes.min_kernel))
    )


def _kernel(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    try:
        return int(major), int(minor or 0)
    except ValueError:
        raise InvalidArgument(f'invalid kernel version: "{text}"') from None
