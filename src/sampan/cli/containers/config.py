"""From the flags of `run` and `create` to the body of POST /containers/create.

Source of rules and sentences: docker/cli cli/command/container/opts.go.
"""

from __future__ import annotations

import os

from sampan.cli.containers.capabilities import effective
from sampan.cli.containers.networks import endpoints_of
from sampan.cli.invocation import Exit
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sampan.cli.containers.flags import ContainerOptions


def configuration(options: ContainerOptions, image: str, command: Sequence[str]) -> dict[str, Any]:
    """Return the body. Raises InvalidArgument with docker's sentence."""
    _check(options)
    bindings: dict[str, list[dict[str, str]]] = {}
    ports: dict[str, dict[str, str]] = {}
    if options.publish or options.expose:
        from sampan.cli.containers.ports import bindings_of, exposed

        bindings = bindings_of(options.publish)
        ports = {port: {} for port in bindings}
        ports |= {port: {} for expose in options.expose for port in exposed(expose)}
    binds, volumes = _volumes(options.volume)
    body = _process(options, image, command)
    body["ExposedPorts"] = ports
    body["Volumes"] = {name: {} for name in volumes}
    host = _host(options) | _resources(options)
    host |= {"Binds": binds or None, "PortBindings": bindings}
    body["HostConfig"] = host
    body["NetworkingConfig"] = {"EndpointsConfig": endpoints_of(options)}
    return body


def _check(options: ContainerOptions) -> None:
    swappiness = options.memory_swappiness
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise InvalidArgument(
            f"invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )
    for name, value, known in (
        ("pid", options.pid, ("", "host", "private")),
        ("uts", options.uts, ("", "host", "private")),
        ("cgroupns", options.cgroupns, ("", "host", "private")),
    ):
        if value not in known and not (name == "pid" and value.startswith("container:")):
            mode = {"cgroupns": "CGROUP"}.get(name, name.upper())
            raise InvalidArgument(f"--{name}: invalid {mode} mode")
    if options.userns.partition(":")[0] not in ("", "host", "auto", "keep-id"):
        raise InvalidArgument("--userns: invalid USER mode")
    if options.log_driver == "none" and options.log_opt:
        raise InvalidArgument("invalid logging opts for driver none")
    if options.rm and restart_policy(options.restart)["Name"] not in ("", "no"):
        raise InvalidArgument("conflicting options: cannot specify both --restart and --rm")


def _process(options: ContainerOptions, image: str, command: Sequence[str]) -> dict[str, Any]:
    stdin = "stdin" in options.attach or options.interactive
    entrypoint: list[str] | None = None
    if options.entrypoint or "entrypoint" in options.changed:
        entrypoint = [options.entrypoint]  # --entrypoint= clears the image's
    body: dict[str, Any] = {
        "Hostname": options.hostname,
        "Domainname": options.domainname,
        "User": options.user,
        "AttachStdin": stdin,
        "AttachStdout": not options.attach or "stdout" in options.attach,
        "AttachStderr": not options.attach or "stderr" in options.attach,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        # With stdin attached, the client's going away is the end of it.
        "StdinOnce": options.interactive and stdin,
        "Env": file_lines(options.env_file, "--env-file", inherit=True) + options.env or None,
        "Cmd": [*command] or None,
        "Image": image,
        "WorkingDir": options.workdir,
        "Entrypoint": entrypoint,
        "Labels": _pairs(file_lines(options.label_file, "--label-file") + options.label),
    }
    if options.stop_signal:
        body["StopSignal"] = options.stop_signal
    if "stop-timeout" in options.changed:
        body["StopTimeout"] = options.stop_timeout
    healthcheck = _healthcheck(options)
    if healthcheck:
        body["Healthcheck"] = healthcheck
    return body


def _healthcheck(options: ContainerOptions) -> dict[str, Any] | None:
    times = {
        "Interval": options.health_interval,
        "Timeout": options.health_timeout,
        "Retries": options.health_retries,
        "StartPeriod": options.health_start_period,
        "StartInterval": options.health_start_interval,
    }
    given = bool(options.health_cmd or any(times.values()))
    if options.no_healthcheck:
        if given:
            raise InvalidArgument("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    for name, value in times.items():
        if value < 0:
            flag = name.replace("Start", "Start-").lower()
            raise InvalidArgument(f"--health-{flag} cannot be negative")
    test = {"Test": ["CMD-SHELL", options.health_cmd]} if options.health_cmd else {}
    return test | {name: value for name, value in times.items() if value}


def _host(options: ContainerOptions) -> dict[str, Any]:
    security, masked, read_only = _security(options.security_opt)
    cap_add, cap_drop = effective(options.cap_add, options.cap_drop)
    network = options.network[0]["name"] if options.network else "default"
    return {
        "ContainerIDFile": options.cidfile,
        "LogConfig": {"Type": options.log_driver, "Config": _pairs(options.log_opt)},
        "NetworkMode": network,
        "RestartPolicy": restart_policy(options.restart),
        "AutoRemove": options.rm,
        "VolumeDriver": options.volume_driver,
        "VolumesFrom": options.volumes_from or None,
        "CapAdd": cap_add or None,
        "CapDrop": cap_drop or None,
        "CgroupnsMode": options.cgroupns,
        "Dns": options.dns,
        "DnsOptions": options.dns_option,
        "DnsSearch": options.dns_search,
        "ExtraHosts": options.add_host or None,
        "GroupAdd": options.group_add or None,
        "IpcMode": options.ipc,
        "Links": options.link or None,
        "OomScoreAdj": options.oom_score_adj,
        "PidMode": options.pid,
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": security or None,
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "ShmSize": options.shm_size,
        "ConsoleSize": [0, 0],
        "Isolation": options.isolation,
        "MaskedPaths": masked,
        "ReadonlyPaths": read_only,
        **_given(options),
    }


def _given(options: ContainerOptions) -> dict[str, Any]:
    """Return the fields of HostConfig that only those have who ask for them."""
    mounts = [*options.mount]
    if options.use_api_socket:
        socket = {"Source": "/var/run/docker.sock", "Target": "/var/run/docker.sock"}
        mounts.append({"Type": "bind", "BindOptions": {}, **socket})
    fields = {
        "StorageOpt": _storage(options.storage_opt),
        "Tmpfs": {path: rest for path, _, rest in (t.partition(":") for t in options.tmpfs)},
        "Sysctls": options.sysctl,
        "Runtime": options.runtime,
        "Mounts": mounts,
        "Annotations": options.annotation,
    }
    given: dict[str, Any] = {name: value for name, value in fields.items() if value}
    if "init" in options.changed:
        given["Init"] = options.init
    return given


def _resources(options: ContainerOptions) -> dict[str, Any]:
    devices, requests = _devices(options)
    return {
        "CpuShares": options.cpu_shares,
        "Memory": options.memory,
        "NanoCpus": options.cpus,
        "CgroupParent": options.cgroup_parent,
        "BlkioWeight": options.blkio_weight,
        "BlkioWeightDevice": options.blkio_weight_device,
        "BlkioDeviceReadBps": options.device_read_bps,
        "BlkioDeviceWriteBps": options.device_write_bps,
        "BlkioDeviceReadIOps": options.device_read_iops,
        "BlkioDeviceWriteIOps": options.device_write_iops,
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpuRealtimePeriod": options.cpu_rt_period,
        "CpuRealtimeRuntime": options.cpu_rt_runtime,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Devices": devices,
        "DeviceCgroupRules": options.device_cgroup_rule or None,
        "DeviceRequests": requests or None,
        "MemoryReservation": options.memory_reservation,
        "MemorySwap": options.memory_swap,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable,
        "PidsLimit": options.pids_limit,
        "Ulimits": [options.ulimit[name] for name in sorted(options.ulimit)],
        "CpuCount": options.cpu_count,
        "CpuPercent": options.cpu_percent,
        "IOMaximumIOps": options.io_maxiops,
        "IOMaximumBandwidth": options.io_maxbandwidth,
    }


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def restart_policy(text: str) -> dict[str, Any]:
    """Parse `no`, `on-failure[:n]`, `always`, `unless-stopped`. Raises InvalidArgument."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise InvalidArgument("invalid restart policy format: no policy provided before colon")
    try:
        return {"Name": name, "MaximumRetryCount": int(count or "0")}
    except ValueError:
        raise InvalidArgument(
            "invalid restart policy format: maximum retry count must be an integer"
        ) from None


def _storage(texts: Sequence[str]) -> dict[str, str]:
    if any("=" not in text for text in texts):
        raise InvalidArgument("invalid storage option")
    return _pairs(texts)


def _volumes(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split --volume into binds, and paths that get an anonymous volume."""
    binds: list[str] = []
    volumes: list[str] = []
    for text in dict.fromkeys(texts):
        source, colon, rest = text.partition(":")
        if not text:
            raise InvalidArgument("invalid empty volume spec")
        if not colon:
            volumes.append(text)
            continue
        if not rest or not source:
            raise InvalidArgument(f"invalid spec: {text}: empty section between colons")
        if source.startswith("."):
            text = f"{os.path.abspath(source)}:{rest}"
        binds.append(text)
    return binds, volumes


def _security(texts: Sequence[str]) -> tuple[list[str], list[str] | None, list[str] | None]:
    """Return the daemon's options, and empty masked and read-only paths if they are lifted."""
    found: list[str] = []
    lifted = False
    for text in texts:
        key, given, value = text.partition("=")
        if not given and key != "no-new-privileges":
            key, given, value = text.partition(":")
        if (not given or not value) and key != "no-new-privileges":
            raise InvalidArgument(f'invalid --security-opt: "{text}"')
        if text == "systempaths=unconfined":
            lifted = True
            continue
        if key == "seccomp" and value not in ("builtin", "unconfined"):
            text = f"seccomp={_profile(value)}"
        found.append(text)
    return (found, [], []) if lifted else (found, None, None)


def _profile(path: str) -> str:
    import json

    try:
        with open(path, "rb") as file:
            return json.dumps(json.load(file), separators=(",", ":"))
    except OSError as error:
        raise InvalidArgument(
            f"opening seccomp profile ({path}) failed: open {path}: "
            f"{(error.strerror or '').lower()}"
        ) from None
    except ValueError as error:
        raise InvalidArgument(
            f"compacting json for seccomp profile ({path}) failed: {error}"
        ) from None


def _devices(options: ContainerOptions) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    mappings: list[dict[str, str]] = []
    names: list[str] = []
    for text in options.device:
        if _is_cdi_name(text):
            names.append(text)
        else:
            mappings.append(_device(text))
    requests = [*options.gpus]
    if names:
        requests.append({"Driver": "cdi", "DeviceIDs": names})
    return mappings, requests


def _is_cdi_name(text: str) -> bool:
    """`vendor.com/class=device` names a device by the Container Device Interface."""
    kind, equals, device = text.partition("=")
    vendor, slash, name = kind.partition("/")
    return bool(equals and device and slash and vendor and name and "/" not in name)


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise InvalidArgument(f"bad format for path: {text}")
    source, target, permissions = parts[0], "", "rwm"
    if len(parts) == 3:
        target, permissions = parts[1], parts[2]
        if not _is_device_mode(permissions):
            raise InvalidArgument(f"bad mode specified: {permissions}")
    elif len(parts) == 2 and _is_device_mode(parts[1]):
        permissions = parts[1]
    elif len(parts) == 2:
        target = parts[1]
    path = target or source
    if not path.startswith("/"):
        raise InvalidArgument(f"{path} is not an absolute path")
    normal = os.path.normpath(path)
    return {
        "PathOnHost": source if target else normal,
        "PathInContainer": normal,
        "CgroupPermissions": permissions,
    }


def _is_device_mode(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)


def file_lines(paths: Sequence[str], flag: str, inherit: bool = False) -> list[str]:
    """Read `key=value` lines; with `inherit`, a key alone takes its value from this process."""
    lines: list[str] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise InvalidArgument(
                f"{flag}: open {path}: {(error.strerror or '').lower()}"
            ) from None
        lines += _file_lines(content, path, flag, inherit)
    return lines


def _file_lines(content: bytes, path: str, flag: str, inherit: bool) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{flag}: invalid utf8 bytes in file {path}") from None
    lines: list[str] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        key, equals, _ = line.partition("=")
        if not key:
            raise InvalidArgument(f"{flag}: no variable name on line '{line}'")
        if any(character.isspace() for character in key):
            raise InvalidArgument(
                f"{flag}: variable '{key}' contains whitespaces on line {number} of {path}"
            )
        if equals:
            lines.append(line)
        elif inherit and key in os.environ:
            lines.append(f"{key}={os.environ[key]}")
        elif not inherit:
            lines.append(key)
    return lines


def refusal(path: str, message: str, status: int = 125) -> Exit:
    """Return the end of `run` or `create` with docker's layout of its message."""
    return Exit(
        status,
        f"sampan: {message}\n\nRun 'sampan {path} --help' for more information",
    )
