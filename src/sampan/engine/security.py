"""Privileges of a container: capabilities, `--security-opt`, seccomp profiles.

Source: moby daemon/pkg/oci/caps, daemon/daemon_unix.go parseSecurityOpt, profiles/seccomp.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from sampan.engine.host import go_architecture
from sampan.errors import InvalidArgument
from sampan.linux.capabilities import NAMES, all_names
from sampan.runtime.defaults import CAPABILITIES
from sampan.runtime.seccomp_profile import default_profile
from sampan.spec.docker.config import HostConfig
from sampan.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")
_SE_LINUX = ("user", "role", "type", "level", "filetype")


def capabilities(host: HostConfig) -> list[str]:
    """Return the capabilities of a container, as CAP_ names; raises InvalidArgument."""
    adds = normalised(host.cap_add or (), "CapAdd")
    drops = normalised(host.cap_drop or (), "CapDrop")
    if host.privileged:
        return all_names()
    if "ALL" in adds:
        return [name for name in all_names() if name not in drops]
    if "ALL" in drops:
        return adds
    kept = [name for name in CAPABILITIES if name not in drops]
    return kept + [name for name in adds if name not in kept]


def normalised(names: Sequence[str], field: str) -> list[str]:
    """Return capability names in their full spelling; raises InvalidArgument in Docker's words."""
    found = []
    for name in names:
        full = name.upper()
        if full != "ALL":
            full = full if full.startswith("CAP_") else f"CAP_{full}"
            if full not in NAMES:
                raise InvalidArgument(f'invalid {field}: unknown capability: "{name}"')
        if full not in found:
            found.append(full)
    return found


@dataclass(slots=True)
class SecurityOptions:
    """What `HostConfig.SecurityOpt` says."""

    no_new_privileges: bool = False
    writable_cgroups: bool | None = None
    apparmor: str = ""
    seccomp: str = ""  # "": the default; "unconfined", "builtin", or a profile
    labels: list[str] = field(default_factory=list)

    @property
    def selinux_label(self) -> str:
        """The label of the process, "" if nobody named one."""
        parts = dict(label.split(":", 1) for label in self.labels if label != "disable")
        if "disable" in self.labels or not parts:
            return ""
        defaults = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
        return ":".join(parts.get(name, default) for name, default in defaults.items())


def parse_security_opt(items: Sequence[str]) -> SecurityOptions:
    """Return the options; raises InvalidArgument in Docker's words."""
    options = SecurityOptions()
    for item in items:
        if item == "no-new-privileges":
            options.no_new_privileges = True
        elif item == "writable-cgroups":
            options.writable_cgroups = True
        elif item == "disable":
            options.labels.append("disable")
        else:
            _apply(options, item)
    return options


def _apply(options: SecurityOptions, item: str) -> None:
    separator = "=" if "=" in item else ":"
    key, found, value = item.partition(separator)
    if not found:
        raise InvalidArgument(f'invalid --security-opt 1: "{item}"')
    match key:
        case "label":
            if value != "disable" and value.partition(":")[0] not in _SE_LINUX:
                raise InvalidArgument(f'bad label option "{value}", valid options "disable, user, '
                                      'role, level, type, filetype"')  # fmt: skip
            options.labels.append(value)
        case "apparmor":
            options.apparmor = value
        case "seccomp":
            options.seccomp = value
        case "no-new-privileges":
            options.no_new_privileges = _boolean(value, item)
        case "writable-cgroups":
            options.writable_cgroups = _boolean(value, item)
        case _:
            raise InvalidArgument(f'invalid --security-opt 2: "{item}"')


def _boolean(value: str, item: str) -> bool:
    if value not in TRUE + FALSE:
        raise InvalidArgument(f'invalid --security-opt 2: "{item}"')
    return value in TRUE


# --- seccomp -----------------------------------------------------------------------------------


def seccomp(
    options: SecurityOptions, names: Sequence[str], privileged: bool, *, sized: bool = False
) -> LinuxSeccomp | None:
    """Return the filter of a container with the capabilities `names`; None for no filter.

    `sized`: a project limits what it writes.
    """
    if options.seccomp == "unconfined":
        return None
    if options.seccomp and options.seccomp != "builtin":
        return load_profile(options.seccomp, frozenset(names))
    return None if privileged else _default(tuple(sorted(names)), sized)


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
def load_profile(text: str, names: frozenset[str]) -> LinuxSeccomp:
    """Return the OCI filter of a profile in Docker's JSON; raises InvalidArgument."""
    try:
        profile = msgspec.json.decode(text, type=_Profile)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from error
    if profile.architectures and profile.arch_map:
        raise InvalidArgument(
            "both 'architectures' and 'archMap' are specified in the seccomp profile"
        )
    architectures = list(profile.architectures or ())
    for each in profile.arch_map or ():
        if _GO_NAMES.get(each.architecture) == go_architecture():
            architectures = [each.architecture, *(each.sub_architectures or ())]
    rules = []
    for rule in profile.syscalls or ():
        if rule.name and rule.names:
            raise InvalidArgument("'name' and 'names' are specified in the seccomp profile")
        if _applies(rule, names):
            rules.append(
                LinuxSyscall(
                    names=rule.names or [rule.name],
                    action=rule.action,
                    errno_ret=rule.errno_ret,
                    args=rule.args or [],
                )
            )
    return LinuxSeccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=architectures,
        flags=profile.flags or [],
        listener_path=profile.listener_path,
        listener_metadata=profile.listener_metadata,
        syscalls=rules,
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
