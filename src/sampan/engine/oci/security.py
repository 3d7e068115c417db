"""Privileges of a container: capabilities and `--security-opt`.

Source: moby daemon/pkg/oci/caps, daemon/daemon_unix.go parseSecurityOpt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.engine.host import HostFacts
from sampan.errors import InvalidArgument
from sampan.linux.capabilities import NAMES, all_names
from sampan.runtime.defaults import CAPABILITIES
from sampan.spec.booleans import parse_bool
from sampan.spec.docker.config import HostConfig

_DOCKERS = "docker-default"
_SE_LINUX = ("user", "role", "type", "level", "filetype")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What confines a container that does not say otherwise: options of the daemon."""

    seccomp: str = ""  # "": the built-in profile; "unconfined", or the text of a profile
    no_new_privileges: bool = False
    ipc_mode: str = "private"
    cgroupns_mode: str = ""  # "": private where there is one hierarchy of control groups
    apparmor: str = ""  # the profile of the engine; "" where AppArmor is off


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

    no_new_privileges: bool | None = None
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

    def discarded(self, facts: HostFacts) -> list[str]:
        """Return a warning for each option that this kernel has nothing for."""
        found = []
        if self.apparmor not in ("", "unconfined") and not facts.apparmor:
            found.append(
                f'AppArmor is not enabled on this host. The profile "{self.apparmor}" is discarded.'
            )
        if self.selinux_label and not facts.selinux:
            labels = ", ".join(self.labels)
            found.append(f"SELinux is not enabled on this host. Labels discarded: {labels}.")
        return found


def apparmor_profile(options: SecurityOptions, privileged: bool, confinement: Confinement) -> str:
    """Return the AppArmor profile of a container; "" for none.

    Docker's name for its own profile means ours, where the kernel has that.
    """
    if options.apparmor == _DOCKERS and confinement.apparmor:
        return confinement.apparmor
    return options.apparmor or ("unconfined" if privileged else confinement.apparmor)


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
            name, _, wanted = value.partition(":")
            if value != "disable" and not (name in _SE_LINUX and wanted):
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
    try:
        return parse_bool(value)
    except ValueError as error:
        raise InvalidArgument(f'invalid --security-opt 2: "{item}"') from error
