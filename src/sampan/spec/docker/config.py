"""What a container is made from: `Config` (portable) and `HostConfig` (of this host).

Source: moby api/types/container config.go, hostconfig.go; api/types/mount, as API 1.51 has them.
Go writes null for a list or map that nobody gave: such fields may be None. Fields that Go omits
when empty are UNSET. Both are false, so `x or {}` reads either.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from sampan.spec.docker.networks import PortBinding
from sampan.spec.image import Healthcheck

Strings = list[str] | str | None  # a lone string is a list of one, as in Docker's strslice


class Config(msgspec.Struct, rename="pascal", kw_only=True):
    """What runs: the image's defaults with the user's changes."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | UnsetType | None = UNSET  # "80/tcp" → {}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: Strings = None
    healthcheck: Healthcheck | UnsetType | None = UNSET
    args_escaped: bool | UnsetType = UNSET
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: Strings = None
    network_disabled: bool | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET  # of API versions before 1.44
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | UnsetType = UNSET
    stop_timeout: int | UnsetType | None = UNSET  # seconds
    shell: list[str] | UnsetType | None = UNSET


# --- mounts ------------------------------------------------------------------------------------


class BindOptions(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """Options of a bind mount."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """A volume driver with its options."""

    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """Options of a volume mount."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: DriverConfig | None = None


class ImageOptions(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """Options of an image mount."""

    subpath: str = ""


class TmpfsOptions(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """Options of a tmpfs mount."""

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class Mount(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """One item of `HostConfig.Mounts`, what `--mount` says."""

    type: str = ""  # bind, volume, tmpfs, image, npipe, cluster
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    cluster_options: dict[str, Any] | None = None


# --- resources ---------------------------------------------------------------------------------


class WeightDevice(msgspec.Struct, rename="pascal", kw_only=True):
    """Block I/O weight of one device (10..1000)."""

    path: str = ""
    weight: int = 0


class ThrottleDevice(msgspec.Struct, rename="pascal", kw_only=True):
    """Bytes or operations per second of one device."""

    path: str = ""
    rate: int = 0


class DeviceMapping(msgspec.Struct, rename="pascal", kw_only=True):
    """A device of the host inside the container."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """Devices that a driver chooses (`--gpus`)."""

    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = msgspec.field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(msgspec.Struct, rename="pascal", kw_only=True):
    """One resource limit, by the name after RLIMIT_ in small letters; -1 is no limit."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class RestartPolicy(msgspec.Struct, rename="pascal", kw_only=True):
    """When a container is started again: no, always, unless-stopped, on-failure."""

    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """The log driver and its options."""

    type: str = ""
    config: dict[str, str] | None = None


class Resources(msgspec.Struct, rename="pascal", kw_only=True):
    """Limits: the part of HostConfig that `update` can change."""

    cpu_shares: int = 0
    memory: int = 0  # bytes
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="BlkioDeviceReadIOps"
    )
    blkio_device_write_iops: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="BlkioDeviceWriteIOps"
    )
    cpu_period: int = 0  # microseconds
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory: int | UnsetType = UNSET  # of API versions before 1.42
    kernel_memory_tcp: int | UnsetType = msgspec.field(default=UNSET, name="KernelMemoryTCP")
    memory_reservation: int = 0
    memory_swap: int = 0  # memory and swap together; -1 is no limit
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0  # this and the next three: Windows only
    cpu_percent: int = 0
    io_maximum_iops: int = msgspec.field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = msgspec.field(default=0, name="IOMaximumBandwidth")


class HostConfig(Resources, rename="pascal", kw_only=True):
    """What the container gets of this host."""

    binds: list[str] | None = None
    container_id_file: str = msgspec.field(default="", name="ContainerIDFile")
    log_config: LogConfig = msgspec.field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[int] = msgspec.field(default_factory=lambda: [0, 0])  # height, width
    annotations: dict[str, str] | UnsetType | None = UNSET
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | UnsetType | None = UNSET
    tmpfs: dict[str, str] | UnsetType | None = UNSET
    uts_mode: str = msgspec.field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | UnsetType | None = UNSET
    runtime: str | UnsetType = UNSET
    isolation: str = ""
    mounts: list[Mount] | UnsetType | None = UNSET
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | UnsetType | None = UNSET
