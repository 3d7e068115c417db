"""`HostConfig`: what a container asks of its host. Source: moby api/types/container, API 1.51."""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.spec.docker.networks import PortBinding


class LogConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """Log driver and its options."""

    type: str = ""
    config: dict[str, str] | None = None


class RestartPolicy(msgspec.Struct, rename="pascal", kw_only=True):
    """no, always, on-failure or unless-stopped."""

    name: str = ""
    maximum_retry_count: int = 0


class WeightDevice(msgspec.Struct, rename="pascal", kw_only=True):
    """Block I/O weight of one device."""

    path: str
    weight: int


class ThrottleDevice(msgspec.Struct, rename="pascal", kw_only=True):
    """Block I/O rate of one device."""

    path: str
    rate: int


class DeviceMapping(msgspec.Struct, rename="pascal", kw_only=True):
    """A device of the host inside the container."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """Devices asked of a device driver."""

    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = msgspec.field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(msgspec.Struct, rename="pascal", kw_only=True):
    """One resource limit; -1 is unlimited."""

    name: str
    hard: int = 0
    soft: int = 0


class BindOptions(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """Options of a bind mount."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeOptions(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """Options of a volume mount."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: dict[str, Any] | None = None


class TmpfsOptions(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """Options of a tmpfs mount."""

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class MountRequest(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """One item of `HostConfig.Mounts`."""

    type: str = ""  # bind, volume, tmpfs, image, npipe, cluster
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: dict[str, Any] | None = None
    tmpfs_options: TmpfsOptions | None = None


class Resources(msgspec.Struct, rename="pascal", kw_only=True):
    """Limits, as `create` and `update` take them; 0 and None mean "not asked for"."""

    cpu_shares: int = 0
    memory: int = 0
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
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = msgspec.field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = msgspec.field(default=0, name="IOMaximumBandwidth")


class HostConfig(Resources, rename="pascal", kw_only=True):
    """Everything that depends on the host."""

    binds: list[str] | None = None
    container_id_file: str = msgspec.field(default="", name="ContainerIDFile")
    log_config: LogConfig = msgspec.field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: tuple[int, int] = (0, 0)  # height, width
    annotations: dict[str, str] | None = None
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
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = msgspec.field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    mounts: list[MountRequest] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None
