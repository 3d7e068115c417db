"""From Docker's configuration of a container to its OCI specification.

Source: moby daemon/oci_linux.go, exec_linux.go, daemon/pkg/oci. Namespaces of other containers,
the network, the root and the user are given to the spawner beside the specification.
"""

from __future__ import annotations

import functools
import os
import re
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from sampan.engine.containers.container import Record
from sampan.engine.oci import cdi, devices, seccomp_profiles, security
from sampan.engine.oci import mount_spec as oci_mount_spec
from sampan.engine.oci import ownership as oci_ownership
from sampan.engine.oci.cgroup_placement import CgroupPlacement
from sampan.engine.oci.mount_spec import mounts
from sampan.engine.oci.resource_spec import linux_resources
from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.capabilities import all_names
from sampan.runtime import defaults
from sampan.runtime.spawner import Streams
from sampan.spec.docker.config import HostConfig, Ulimit
from sampan.spec.docker.exec import ExecCreateRequest
from sampan.spec.names import short_id
from sampan.spec.runtime import (
    ConsoleSize,
    Linux,
    LinuxNamespace,
    Mount,
    Process,
    Rlimit,
    Root,
    Spec,
)

INIT_INSIDE: Final = "/sbin/docker-init"
INIT_PATHS: Final = (  # statically linked: they have to run in any image
    "/usr/bin/tini-static",
    "/usr/libexec/docker/docker-init",
    "/usr/bin/docker-init",
    "/usr/local/bin/docker-init",
)
FILES_SOFT, FILES_HARD = 1024, 524288
LogDriver = Literal["json-file", "local", "none"]


@dataclass(frozen=True, slots=True)
class Specifications:
    """Writes specifications for the containers of one engine."""

    data_root: Path
    default_ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    init: bool = False  # run an init in containers that do not say
    is_sized: Callable[[HostConfig], bool] = lambda _: False  # a project limits what it writes
    confinement: security.Confinement = field(default_factory=security.Confinement)
    names: cdi.DeviceNames = field(default_factory=cdi.DeviceNames)
    placement: CgroupPlacement = field(default_factory=CgroupPlacement)

    def container_spec(self, record: Record, *, files_of: str = "") -> Spec:
        """Return the specification of a container that is about to start.

        `files_of` is the id of the container whose hosts, hostname and resolv.conf it shows, if
        it joins the network of another. Raises InvalidArgument or Unsupported in Docker's words.
        """
        config, host = record.config, record.host_config
        options = security.parse_security_opt(host.security_opt or ())
        names = security.capabilities(host)
        linux = self._linux(record, options, names)
        if record.id_maps:
            linux.uid_mappings, linux.gid_mappings = record.id_maps.uids, record.id_maps.gids
        process = self._process(record, options, names)
        cgroups = options.writable_cgroups
        writable_cgroups = host.privileged if cgroups is None else cgroups
        folder = self.data_root / "containers" / (files_of or record.id)
        all_mounts = mounts(record, linux, folder, writable_cgroups=writable_cgroups)
        oci_ownership.apply(record, all_mounts)
        wants_init = self.init if not isinstance(host.init, bool) else host.init
        if wants_init and not host.pid_mode:
            process.args = [INIT_INSIDE, "--", *process.args]
            all_mounts.append(_init_mount())
        own_uts = host.uts_mode != "host"
        spec = Spec(
            process=process,
            root=Root(readonly=host.readonly_rootfs),
            hostname=config.hostname if own_uts else "",
            domainname=config.domainname if own_uts else "",
            mounts=all_mounts,
            annotations=dict(host.annotations or {}),
            linux=linux,
        )
        cdi.inject(spec, self.names.edits(host.device_requests or ()))
        return spec

    def streams(self, record: Record) -> Streams:
        """Return how the streams of a container are connected, and where its log goes."""
        config, host = record.config, record.host_config
        driver = host.log_config.type or "json-file"
        options = dict(host.log_config.config or {})
        size = host.console_size if len(host.console_size) == 2 else [0, 0]
        return Streams(
            terminal=config.tty,
            open_stdin=config.open_stdin,
            stdin_once=config.stdin_once,
            rows=size[0],
            columns=size[1],
            log_driver=cast("LogDriver", driver),
            log_options=options,
            log_attributes=log_attributes(record, options),
        )

    def make_sources(self, record: Record) -> list[str]:
        """Return the folders of the host that a start has to make if they are missing."""
        return oci_mount_spec.make_sources(record)

    def exec_process(self, record: Record, request: ExecCreateRequest) -> Process:
        """Return one more process of a running container; the user is resolved by the spawner."""
        options = security.parse_security_opt(record.host_config.security_opt or ())
        names = security.capabilities(record.host_config)
        if request.privileged:
            names = all_names()
        process = self._process(record, options, names)
        process.args = [request.cmd] if isinstance(request.cmd, str) else list(request.cmd or ())
        process.env = environment(record, request.tty, request.env or ())
        process.cwd = request.working_dir or process.cwd
        process.terminal = request.tty
        process.console_size = _console_size(request.console_size if request.tty else None)
        if request.privileged:
            process.apparmor_profile = "unconfined"
        return process

    def _process(
        self, record: Record, options: security.SecurityOptions, names: list[str]
    ) -> Process:
        config, host = record.config, record.host_config
        confinement = self.confinement
        no_new_privileges = options.no_new_privileges
        if no_new_privileges is None:
            no_new_privileges = confinement.no_new_privileges
        return Process(
            terminal=config.tty,
            console_size=_console_size(host.console_size if config.tty else None),
            args=[record.path, *record.args],
            env=environment(record, config.tty),
            cwd=config.working_dir or "/",
            capabilities=defaults.capabilities(names),
            rlimits=self._rlimits(host),
            no_new_privileges=no_new_privileges,
            apparmor_profile=security.apparmor_profile(options, host.privileged, confinement),
            selinux_label="" if host.privileged else options.selinux_label,
            oom_score_adj=host.oom_score_adj,
        )

    def _rlimits(self, host: HostConfig) -> list[Rlimit]:
        wanted = {"nofile": default_files(), **self.default_ulimits}
        wanted |= {each.name: each for each in host.ulimits or ()}
        return [
            Rlimit(type=f"RLIMIT_{each.name.upper()}", soft=each.soft, hard=each.hard)
            for each in wanted.values()
        ]

    def _linux(self, record: Record, options: security.SecurityOptions, names: list[str]) -> Linux:
        host = record.host_config
        linux = Linux(
            sysctl=_sysctls(record),
            resources=linux_resources(host),
            cgroups_path=self.placement.path(record.id, host.cgroup_parent),
            namespaces=namespaces(host),
            seccomp=seccomp_profiles.seccomp(
                options,
                names,
                host.privileged,
                sized=self.is_sized(host),
                default=self.confinement.seccomp,
            ),
            masked_paths=list(host.masked_paths or ()),
            readonly_paths=list(host.readonly_paths or ()),
        )
        if not host.privileged:
            if host.masked_paths is None:
                linux.masked_paths = list(masked_paths())
            if host.readonly_paths is None:
                linux.readonly_paths = list(defaults.READONLY_PATHS)
        _add_devices(linux, host)
        return linux


def log_attributes(record: Record, options: Mapping[str, str]) -> dict[str, str]:
    """Return what is stored with each line of the log: chosen labels, variables, the tag.

    Source: moby daemon/logger/loginfo.go, ExtraAttributes.
    """
    labels = record.config.labels or {}
    variables = dict(item.split("=", 1) for item in record.config.env or () if "=" in item)
    found: dict[str, str] = {}
    for there, names, pattern in (
        (labels, options.get("labels", ""), options.get("labels-regex", "")),
        (variables, options.get("env", ""), options.get("env-regex", "")),
    ):
        wanted = set(names.split(",")) if names else set()
        for key, value in there.items():
            if key in wanted or (pattern and _matches(pattern, key)):
                found[key] = value
    if tag := options.get("tag"):
        found["tag"] = expanded_tag(tag, record)
    return found


def _matches(pattern: str, key: str) -> bool:
    try:
        return re.search(pattern, key) is not None
    except re.error as error:
        raise InvalidArgument(f"error parsing regexp: {error}") from None


def expanded_tag(tag: str, record: Record) -> str:
    """Return a log tag with its template fields ({{.ID}}, {{.Name}} …) filled in."""
    fields = {
        "ID": short_id(record.id),
        "FullID": record.id,
        "Name": record.name,
        "ImageID": short_id(record.image),
        "ImageFullID": record.image,
        "ImageName": record.config.image,
        "DaemonName": "docker",
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] not in fields:
            raise InvalidArgument(f"failed to process log tag: {match[0]} is not known")
        return fields[match[1]]

    return re.sub(r"\{\{\s*\.(\w+)\s*\}\}", fill, tag)


@functools.cache
def masked_paths() -> tuple[str, ...]:
    """Return the paths that containers do not see; asked of the host once."""
    return tuple(defaults.masked_paths())


@functools.cache
def default_files() -> Ulimit:
    """Return how many files a process may open: never what the daemon itself may.

    Programs that visit every possible descriptor take minutes, or all memory, where there is no
    limit; the hard one is that of systemd, or ours where it is lower.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = FILES_HARD if most == resource.RLIM_INFINITY else min(FILES_HARD, most)
    return Ulimit(name="nofile", soft=min(FILES_SOFT, hard), hard=hard)


def _init_mount() -> Mount:
    return Mount(destination=INIT_INSIDE, type="bind", source=init_path(), options=["bind", "ro"])


def init_path() -> str:
    """Return the program that `--init` puts in front; raises Unsupported if there is none."""
    for path in INIT_PATHS:
        if os.access(path, os.X_OK):
            return path
    raise Unsupported("--init needs a static init on the host: apt-get install tini")


def environment(record: Record, terminal: bool, extra: Sequence[str] = ()) -> list[str]:
    """Return the environment of a process: Docker's, the container's, then `extra`.

    An item without `=` removes the variable. HOME is set by the spawner, from the passwd file.
    """
    found = {"PATH": defaults.PATH, "HOSTNAME": record.config.hostname}
    if terminal:
        found["TERM"] = "xterm"
    for item in (*(record.config.env or ()), *extra):
        key, equals, value = item.partition("=")
        if equals:
            found[key] = value
        else:
            found.pop(key, None)
    return [f"{key}={value}" for key, value in found.items()]


def _console_size(size: list[int] | None) -> ConsoleSize | None:
    if not size or len(size) != 2 or not all(size):
        return None
    return ConsoleSize(height=size[0], width=size[1])


def _sysctls(record: Record) -> dict[str, str]:
    host = record.host_config
    found = {}
    if host.network_mode != "host" and not host.network_mode.startswith("container:"):
        found = {
            "net.ipv4.ping_group_range": f"0 {_last_group(record)}",  # ping without CAP_NET_RAW
            "net.ipv4.ip_unprivileged_port_start": "0",
        }
    return {**found, **(host.sysctls or {})}


def _last_group(record: Record) -> int:
    """Return the last group of those from 0 on that exist in the container."""
    if record.id_maps is None:
        return (1 << 31) - 1
    return next((each.size - 1 for each in record.id_maps.gids if not each.container_id), 0)


def namespaces(host: HostConfig) -> list[LinuxNamespace]:
    """Return the namespaces of a container, those that it joins among them."""
    found = [LinuxNamespace(type="mount")]
    if host.network_mode != "host":
        found.append(LinuxNamespace(type="network"))
    if host.uts_mode != "host":
        found.append(LinuxNamespace(type="uts"))
    if host.pid_mode != "host":
        found.append(LinuxNamespace(type="pid"))
    if host.ipc_mode != "host":
        found.append(LinuxNamespace(type="ipc"))
    if host.cgroupns_mode == "private":
        found.append(LinuxNamespace(type="cgroup"))
    return found


def _add_devices(linux: Linux, host: HostConfig) -> None:
    """Add the nodes of `--device` and of privileged containers, and the list that allows them."""
    nodes, rules = devices.devices(host.devices or ())
    if host.privileged:
        inside = {node.path for node in nodes}
        nodes += [node for node in devices.host_devices() if node.path not in inside]
        rules = defaults.all_devices()
    else:
        own = devices.parse_rules(host.device_cgroup_rules or ())
        rules = [*defaults.device_rules(), *rules, *own]
    linux.devices = nodes
    assert linux.resources is not None
    linux.resources.devices = rules
