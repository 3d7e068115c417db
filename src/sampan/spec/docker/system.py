"""Bodies of the system endpoints of Docker's Engine API, as version 1.51 has them.

Source: moby api/types/system, api/types/registry. The order of the fields is Docker's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.spec.docker.volumes import Volume
from sampan.spec.storage import StorageItem


class PluginsInfo(msgspec.Struct, rename="pascal", kw_only=True):
    """Names of the drivers, by kind."""

    volume: list[str] = []
    network: list[str] = []
    authorization: list[str] | None = None
    log: list[str] = []


class IndexInfo(msgspec.Struct, rename="pascal", kw_only=True):
    """One registry."""

    name: str
    mirrors: list[str] = []
    secure: bool = True
    official: bool = False


class RegistryConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """Which registries are trusted how."""

    insecure_registry_cidrs: list[str] = msgspec.field(
        name="InsecureRegistryCIDRs", default_factory=list
    )
    index_configs: dict[str, IndexInfo] = {}
    mirrors: list[str] = []


class Runtime(msgspec.Struct, kw_only=True):
    """One OCI runtime; `status` holds its features."""

    path: str
    status: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class Commit(msgspec.Struct, kw_only=True):
    """The version of a part of the engine."""

    id: str = msgspec.field(name="ID", default="")


class SwarmInfo(msgspec.Struct, rename="pascal", kw_only=True):
    """There is no Swarm here: always inactive."""

    node_id: str = msgspec.field(name="NodeID", default="")
    node_addr: str = ""
    local_node_state: str = "inactive"
    control_available: bool = False
    error: str = ""
    remote_managers: list[dict[str, str]] | None = None


class AddressPool(msgspec.Struct, rename="pascal", kw_only=True):
    """Where new networks get their addresses from."""

    base: str
    size: int


class FirewallInfo(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """The firewall in use."""

    driver: str
    info: list[list[str]] = []


class DeviceInfo(msgspec.Struct, rename="pascal", kw_only=True):
    """A device that can be asked for by its name."""

    source: str
    id: str = msgspec.field(name="ID")


class SystemInfo(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of GET /info."""

    id: str = msgspec.field(name="ID")
    containers: int = 0
    containers_running: int = 0
    containers_paused: int = 0
    containers_stopped: int = 0
    images: int = 0
    driver: str = ""
    driver_status: list[list[str]] = []
    plugins: PluginsInfo = msgspec.field(default_factory=PluginsInfo)
    memory_limit: bool = True
    swap_limit: bool = True
    cpu_cfs_period: bool = True
    cpu_cfs_quota: bool = True
    cpu_shares: bool = msgspec.field(name="CPUShares", default=True)
    cpu_set: bool = msgspec.field(name="CPUSet", default=True)
    pids_limit: bool = True
    ipv4_forwarding: bool = msgspec.field(name="IPv4Forwarding", default=True)
    debug: bool = False
    n_fd: int = msgspec.field(name="NFd", default=0)
    oom_kill_disable: bool = True
    kernel_memory_tcp: bool = msgspec.field(name="KernelMemoryTCP", default=False)
    n_goroutines: int = msgspec.field(name="NGoroutines", default=0)
    system_time: str = ""
    logging_driver: str = "json-file"
    cgroup_driver: str = "cgroupfs"
    cgroup_version: str = "1"
    n_events_listener: int = msgspec.field(name="NEventsListener", default=0)
    kernel_version: str = ""
    operating_system: str = ""
    os_version: str = msgspec.field(name="OSVersion", default="")
    os_type: str = msgspec.field(name="OSType", default="linux")
    architecture: str = ""
    index_server_address: str = "https://index.docker.io/v1/"
    registry_config: RegistryConfig | None = None
    ncpu: int = msgspec.field(name="NCPU", default=0)
    mem_total: int = 0
    generic_resources: list[Any] | None = None
    docker_root_dir: str = ""
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    name: str = ""
    labels: list[str] = []
    experimental_build: bool = False
    server_version: str = ""
    runtimes: dict[str, Runtime] = {}
    default_runtime: str = ""
    swarm: SwarmInfo = msgspec.field(default_factory=SwarmInfo)
    live_restore_enabled: bool = True
    isolation: str = ""
    init_binary: str = ""
    containerd_commit: Commit = msgspec.field(default_factory=Commit)
    runc_commit: Commit = msgspec.field(default_factory=Commit)
    init_commit: Commit = msgspec.field(default_factory=Commit)
    security_options: list[str] = []
    default_address_pools: list[AddressPool] | msgspec.UnsetType = msgspec.UNSET
    firewall_backend: FirewallInfo | msgspec.UnsetType = msgspec.UNSET
    cdi_spec_dirs: list[str] = msgspec.field(name="CDISpecDirs", default_factory=list)
    discovered_devices: list[DeviceInfo] | msgspec.UnsetType = msgspec.UNSET
    warnings: list[str] | None = None


class Platform(msgspec.Struct, rename="pascal", kw_only=True):
    """The name of the product."""

    name: str


class ComponentVersion(msgspec.Struct, rename="pascal", kw_only=True):
    """The version of one part."""

    name: str
    version: str
    details: dict[str, str] = {}


class SystemVersion(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of GET /version."""

    platform: Platform
    components: list[ComponentVersion]
    version: str
    api_version: str
    min_api_version: str = msgspec.field(name="MinAPIVersion")
    git_commit: str
    go_version: str
    os: str = "linux"
    arch: str
    kernel_version: str
    experimental: bool | msgspec.UnsetType = msgspec.UNSET
    build_time: str


class BuildCache(msgspec.Struct, rename="pascal", kw_only=True):
    """A record of the build cache, in the body of GET /system/df."""

    id: str = msgspec.field(name="ID")
    parents: list[str] | msgspec.UnsetType = msgspec.UNSET
    type: str
    description: str
    in_use: bool = False
    shared: bool
    size: int
    created_at: str
    last_used_at: str | None
    usage_count: int


class DiskUsage(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of GET /system/df; a kind that was not asked for is null or 0."""

    layers_size: int = 0
    images: list[Any] | None = None
    containers: list[Any] | None = None
    volumes: list[Volume] | None = None
    build_cache: list[BuildCache] | None = None
    storage: list[StorageItem] | msgspec.UnsetType = msgspec.UNSET  # Sampan's own
