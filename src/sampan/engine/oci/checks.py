"""Whether a container can be made as it is asked for, and Docker's defaults for what is not said.

Source: moby daemon/container.go verifyContainerSettings, daemon_unix.go adaptContainerSettings.
"""

from __future__ import annotations

import functools
import posixpath
import re
from typing import Final

from msgspec import UNSET

from sampan.engine.containers.signals import parse_signal
from sampan.engine.oci import devices, resources, seccomp_profiles, security, ulimits
from sampan.engine.oci import mounts as oci_mounts
from sampan.engine.oci import specification as oci
from sampan.engine.oci.cdi import DeviceNames
from sampan.engine.oci.cgroup_placement import CgroupPlacement
from sampan.engine.oci.resource_spec import linux_resources
from sampan.errors import InvalidArgument
from sampan.linux.users import MAX_ID
from sampan.runtime import defaults
from sampan.runtime.confinement.sysctls import check_sysctls
from sampan.spec.docker.config import Config, HostConfig, Resources, RestartPolicy
from sampan.spec.image import Healthcheck
from sampan.spec.user_modes import parse_user_mode

MAX_HOSTNAME: Final = 64
DEFAULT_CONFINEMENT: Final = security.Confinement()
DEFAULT_NAMES: Final = DeviceNames()
DEFAULT_PLACEMENT: Final = CgroupPlacement()
MIN_DURATION: Final = 10**6  # nanoseconds
POLICIES: Final = ("no", "always", "on-failure", "unless-stopped")
RUNTIMES: Final = ("", "sampan", "sampan-runtime", "runc", "io.containerd.runc.v2")
_PORT: Final = re.compile(r"(\d{1,5})(?:/(tcp|udp|sctp))?", re.ASCII)
_PORTS: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)


@functools.cache
def kernel() -> resources.Kernel:
    """Return what this kernel can limit; asked once."""
    return resources.Kernel.here()


def check_create(
    config: Config,
    host: HostConfig,
    *,
    shm_size: int = defaults.SHM_BYTES,
    confinement: security.Confinement = DEFAULT_CONFINEMENT,
    names: DeviceNames = DEFAULT_NAMES,
    placement: CgroupPlacement = DEFAULT_PLACEMENT,
) -> list[str]:
    """Check a container that is to be made, and return warnings; raises InvalidArgument.

    Fills in what Docker decides, cleans up the working directory, and drops limits that this
    kernel lacks; inspect shows the result.
    """
    _validate_config(config)
    _validate_host(config, host)
    warnings = resources.verify(host, kernel())
    warnings += ulimits.check_ulimits(host.ulimits or (), may_raise=kernel().raises_limits)
    warnings += ulimits.check_oom_score(host.oom_score_adj, may_raise=kernel().raises_limits)
    warnings += _validate_modes(config, host)
    warnings += _validate_security(host)
    devices.parse_rules(host.device_cgroup_rules or ())
    names.edits(host.device_requests or ())
    placement.check(host.cgroup_parent)
    adapt(host, shm_size=shm_size, confinement=confinement)
    _validate_at_start(host)
    return warnings


def _validate_at_start(host: HostConfig) -> None:
    """Refuse now what could not be started: Docker makes such a container, and leaves it."""
    devices.devices(host.devices or ())
    linux_resources(host)
    own = {namespace.type for namespace in oci.namespaces(host)}
    check_sysctls(host.sysctls or {}, own)


def check_update(limits: Resources, policy: RestartPolicy) -> list[str]:
    """Check what `update` is asked for, and return warnings; raises InvalidArgument."""
    validate_restart_policy(policy)
    return resources.verify(limits, kernel(), update=True)


# --- config ------------------------------------------------------------------------------------


def _validate_config(config: Config) -> None:
    if config.working_dir:
        if not config.working_dir.startswith("/"):
            raise InvalidArgument(
                f"the working directory '{config.working_dir}' is invalid, "
                "it needs to be an absolute path"
            )
        config.working_dir = posixpath.normpath("/" + config.working_dir.lstrip("/"))
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for item in config.env or ():
        if not item or item.startswith("="):
            raise InvalidArgument(f"invalid environment variable: {item}")
    if config.healthcheck:
        validate_healthcheck(config.healthcheck)
    _validate_ids("user", *config.user.split(":"))
    _validate_name("hostname", config.hostname)
    _validate_name("domainname", config.domainname)


def _validate_name(what: str, name: str) -> None:
    """Refuse what is too long for the kernel, or would be two lines of /etc/hosts."""
    if len(name.encode("utf-8", "surrogateescape")) > MAX_HOSTNAME:
        raise InvalidArgument(f'{what} "{name}" is too long (maximum {MAX_HOSTNAME} bytes)')
    if not name.isprintable():
        raise InvalidArgument(f"invalid {what} format: {name!r}")


def _validate_ids(flag: str, *names: str) -> None:
    """Refuse numbers that no user or group can have; names are looked up when the container starts.

    Source: moby/sys/user, ErrRange.
    """
    for name in names:
        digits = name.removeprefix("-")
        if digits.isascii() and digits.isdigit() and (digits != name or len(digits) > 20):
            number = -1
        else:
            number = int(name) if name.isascii() and name.isdigit() else 0
        if not 0 <= number <= MAX_ID or "\0" in name:
            raise InvalidArgument(
                f"invalid --{flag} {name!r}: uids and gids must be in range 0-{MAX_ID}"
            )


def validate_healthcheck(check: Healthcheck) -> None:
    """Check the times of a health check; raises InvalidArgument."""
    for name, value in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ):
        if value and value < MIN_DURATION:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")


# --- host config -------------------------------------------------------------------------------


def _validate_host(config: Config, host: HostConfig) -> None:
    if host.auto_remove and host.restart_policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    oci_mounts.parse(config, host)
    for destination, options in (host.tmpfs or {}).items():
        oci_mounts.check_tmpfs(destination, options)
    for item in host.extra_hosts or ():
        name, separator, _ = item.replace("=", ":", 1).partition(":")
        if not separator or not name:
            raise InvalidArgument(f'bad format for add-host: "{item}"')
    _validate_ports(config, host)
    validate_restart_policy(host.restart_policy)
    security.capabilities(host)
    _validate_ids("group-add", *(host.group_add or ()))
    if host.isolation not in ("", "default"):
        raise InvalidArgument(f"invalid isolation '{host.isolation}' on linux")
    if "" in (host.annotations or {}):
        raise InvalidArgument(
            "invalid Annotations: the empty string is not permitted as an annotation key"
        )
    if (host.runtime or "") not in RUNTIMES:
        raise InvalidArgument(f"unknown or invalid runtime name: {host.runtime}")


def _validate_ports(config: Config, host: HostConfig) -> None:
    for port in (*(config.exposed_ports or {}), *(host.port_bindings or {})):
        found = _PORT.fullmatch(port)
        if not found or not 0 < int(found[1]) < 1 << 16:
            raise InvalidArgument(f'invalid port specification: "{port}"')
    for bindings in (host.port_bindings or {}).values():
        for binding in bindings or ():
            found = _PORTS.fullmatch(binding.host_port or "0")
            if not found or not int(found[1]) <= int(found[2] or found[1]) < 1 << 16:
                raise InvalidArgument(f'invalid port specification: "{binding.host_port}"')


def validate_restart_policy(policy: RestartPolicy) -> None:
    """Check a restart policy; raises InvalidArgument in Docker's words."""
    if policy.name == "on-failure":
        if policy.maximum_retry_count < 0:
            raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    elif policy.name in POLICIES:
        if policy.maximum_retry_count:
            message = "maximum retry count can only be used with 'on-failure'"
            negative = policy.maximum_retry_count < 0
            message += " and cannot be negative" if negative else ""
            raise InvalidArgument(f"invalid restart policy: {message}")
    elif policy.name:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )


def _validate_security(host: HostConfig) -> list[str]:
    """Check `--security-opt`, profiles of seccomp among it."""
    for flag, texts in (
        ("security-opt", host.security_opt),
        ("MaskedPaths", host.masked_paths),
        ("ReadonlyPaths", host.readonly_paths),
    ):
        for text in texts or ():
            if "\0" in text:
                raise InvalidArgument(f"invalid {flag} {text!r}: contains NUL byte")
    options = security.parse_security_opt(host.security_opt or ())
    names = security.capabilities(host)
    found = seccomp_profiles.seccomp(options, names, host.privileged)
    if found is not None and not kernel().facts.seccomp and options.seccomp not in ("", "builtin"):
        raise InvalidArgument(
            "seccomp is not enabled in your kernel, cannot run a custom seccomp profile"
        )
    return options.discarded(kernel().facts)


def _validate_modes(config: Config, host: HostConfig) -> list[str]:
    if host.uts_mode == "host" and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if _is_container(host.network_mode) and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the network mode")
    ipc = ("", "none", "private", "shareable", "host")
    if host.ipc_mode not in ipc and not _is_container(host.ipc_mode):
        raise InvalidArgument(f"invalid IPC mode: {host.ipc_mode}")
    if host.pid_mode not in ("", "host") and not _is_container(host.pid_mode):
        raise InvalidArgument(f"invalid PID mode: {host.pid_mode}")
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if host.uts_mode not in ("", "host"):
        raise InvalidArgument(f"invalid UTS mode: {host.uts_mode}")
    parse_user_mode(host.userns_mode)
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    warnings = []
    if not kernel().facts.ipv4_forwarding and host.network_mode not in ("host", "none"):
        warnings.append("IPv4 forwarding is disabled. Networking will not work.")
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    if host.init is True:
        oci.init_path()
    return warnings


def _is_container(mode: str) -> bool:
    return mode.startswith("container:") and len(mode) > len("container:")


# --- defaults ----------------------------------------------------------------------------------


def adapt(
    host: HostConfig,
    *,
    shm_size: int = defaults.SHM_BYTES,
    confinement: security.Confinement = DEFAULT_CONFINEMENT,
) -> None:
    """Fill in what Docker decides when a container is made, so that inspect shows it."""
    if not host.restart_policy.name:
        host.restart_policy.name = "no"
    if host.memory > 0 and host.memory_swap == 0:
        host.memory_swap = 2 * host.memory
    host.shm_size = host.shm_size or shm_size
    host.ipc_mode = host.ipc_mode or confinement.ipc_mode
    host.cgroupns_mode = host.cgroupns_mode or confinement.cgroupns_mode
    if not host.cgroupns_mode:
        unified = kernel().facts.cgroup_version == "2"
        host.cgroupns_mode = "private" if unified else "host"
    if host.oom_kill_disable is None and kernel().facts.oom_kill_disable:
        host.oom_kill_disable = False
    if host.network_mode in ("", "default"):
        host.network_mode = "bridge"
    if host.runtime is UNSET or not host.runtime:
        host.runtime = "sampan"
    if host.privileged:
        return
    if host.masked_paths is None:
        host.masked_paths = list(oci.masked_paths())
    if host.readonly_paths is None:
        host.readonly_paths = list(defaults.READONLY_PATHS)
