"""What the engine says of itself: info, version, disk usage."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from sampan.engine import host
from sampan.engine.oci.cdi import DeviceNames
from sampan.engine.oci.security import Confinement
from sampan.spec.docker.images import ImageSummary
from sampan.spec.docker.system import (
    AddressPool,
    Commit,
    ComponentVersion,
    DeviceInfo,
    DiskUsage,
    FirewallInfo,
    IndexInfo,
    Platform,
    PluginsInfo,
    RegistryConfig,
    Runtime,
    SystemInfo,
    SystemVersion,
)
from sampan.spec.docker.volumes import Volume
from sampan.spec.storage import StorageItem
from sampan.spec.versions import API_VERSION, MIN_API_VERSION, VERSION
from sampan.storage.mounter import DriverInfo

# Tools compare the version with Docker's, so it is that of the engine whose API is served; what
# follows the plus sign is ours (Semantic Versioning: it does not count in comparisons).
ENGINE_VERSION = f"28.3.3+sampan.{VERSION}"
BUILD_TIME = "2026-11-24T00:00:00.000000000+00:00"
RUNTIME = "sampan-runtime"
OBJECTS = frozenset({"container", "image", "volume", "build-cache"})


@dataclass(frozen=True, slots=True)
class StateCounts:
    """How many containers there are, by state."""

    running: int = 0
    paused: int = 0
    stopped: int = 0


@dataclass(slots=True, kw_only=True)
class SystemOptions:
    """What the daemon was told, as far as it shows."""

    id: str  # of this engine, made once
    root: str
    logging_driver: str = "json-file"
    labels: Sequence[str] = ()
    debug: bool = False
    live_restore: bool = True
    user_namespaces: bool = False  # containers that do not say are in one
    confinement: Confinement = field(default_factory=Confinement)
    device_names: DeviceNames = field(default_factory=DeviceNames)
    cgroup_driver: str = "cgroupfs"
    firewall: str = "nftables"
    default_address_pools: Sequence[tuple[str, int]] = ()
    warnings: Sequence[str] = ()  # of degraded modes, found at the start
    registries: RegistryConfig = field(
        default_factory=lambda: RegistryConfig(
            insecure_registry_cidrs=["::1/128", "127.0.0.0/8"],
            index_configs={"docker.io": IndexInfo(name="docker.io", official=True)},
        )
    )
    http_proxy: str = ""  # without passwords, as the other one
    https_proxy: str = ""
    no_proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What `System` asks the other parts of the engine."""

    states: Callable[[], Awaitable[StateCounts]]
    count_images: Callable[[], Awaitable[int]]
    containers: Callable[[], Awaitable[list[Any]]]  # summaries of all, with sizes
    images: Callable[[], Awaitable[list[ImageSummary]]]  # with shared sizes
    volumes: Callable[[], Awaitable[Sequence[Volume]]]  # with sizes and references
    volume_drivers: Callable[[], Awaitable[Sequence[str]]]
    layers_size: Callable[[], int]
    disk: Callable[[], Awaitable[list[StorageItem]]]  # what every byte on the disk belongs to
    storage: Callable[[], DriverInfo]
    listeners: Callable[[], int]  # of events


class Facts(Protocol):
    """What `System` asks the machine; a test brings its own."""

    def __call__(self) -> host.HostFacts: ...


@dataclass(slots=True)
class System:
    """Answers for the engine as a whole."""

    options: SystemOptions
    inventory: Inventory
    facts: Facts = field(default=host.host_facts)

    async def info(self) -> SystemInfo:
        """Return what `docker info` shows, with a warning for everything that is degraded."""
        facts, states = self.facts(), await self.inventory.states()
        name, version = host.operating_system()
        kernel = os.uname()
        return SystemInfo(
            id=self.options.id,
            containers=states.running + states.paused + states.stopped,
            containers_running=states.running,
            containers_paused=states.paused,
            containers_stopped=states.stopped,
            images=await self.inventory.count_images(),
            driver=self.inventory.storage().name,
            driver_status=[list(row) for row in self.inventory.storage().status],
            plugins=PluginsInfo(
                volume=list(await self.inventory.volume_drivers()),
                network=["bridge", "host", "ipvlan", "macvlan", "null"],
                log=["json-file", "local", "none"],
            ),
            ipv4_forwarding=facts.ipv4_forwarding,
            debug=self.options.debug,
            n_fd=_open_files(),
            n_goroutines=len(asyncio.all_tasks()),
            n_events_listener=self.inventory.listeners(),
            system_time=_now(),
            logging_driver=self.options.logging_driver,
            cgroup_version=facts.cgroup_version,
            kernel_version=kernel.release,
            operating_system=name,
            os_version=version,
            architecture=kernel.machine,
            registry_config=self.options.registries,
            http_proxy=self.options.http_proxy,
            https_proxy=self.options.https_proxy,
            no_proxy=self.options.no_proxy,
            ncpu=len(os.sched_getaffinity(0)),
            mem_total=host.memory_total(),
            docker_root_dir=self.options.root,
            name=kernel.nodename,
            labels=list(self.options.labels),
            server_version=ENGINE_VERSION,
            runtimes={"sampan": Runtime(path=RUNTIME)},
            default_runtime="sampan",
            live_restore_enabled=self.options.live_restore,
            init_binary="sampan-init",
            runc_commit=Commit(id=VERSION),
            init_commit=Commit(id=VERSION),
            security_options=self._security_options(facts),
            cgroup_driver=self.options.cgroup_driver,
            cdi_spec_dirs=list(self.options.device_names.folders),
            discovered_devices=self._devices(),
            firewall_backend=FirewallInfo(driver=self.options.firewall),
            warnings=[*facts.warnings(), *self.options.warnings] or None,
            **self._pools(),
            **_limits(facts),
        )

    def _security_options(self, facts: host.HostFacts) -> list[str]:
        confinement, options = self.options.confinement, []
        if facts.apparmor:
            options.append("name=apparmor")
        if facts.seccomp:
            profile = confinement.seccomp or "builtin"
            shown = profile if profile in ("builtin", "unconfined") else "custom"
            options.append(f"name=seccomp,profile={shown}")
        if self.options.user_namespaces:
            options.append("name=userns")
        if confinement.no_new_privileges:
            options.append("name=no-new-privileges")
        if facts.cgroup_namespaces:
            options.append("name=cgroupns")
        return options

    def _devices(self) -> list[DeviceInfo] | UnsetType:
        names = self.options.device_names.all()
        return [DeviceInfo(source="cdi", id=name) for name in names] or UNSET

    def _pools(self) -> dict[str, Any]:
        pools = self.options.default_address_pools
        if not pools:
            return {}
        return {
            "default_address_pools": [AddressPool(base=base, size=size) for base, size in pools]
        }

    def version(self) -> SystemVersion:
        """Return what `docker version` shows of the server."""
        kernel, architecture = os.uname().release, host.go_architecture()
        python = f"python{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
        details = {
            "ApiVersion": API_VERSION,
            "Arch": architecture,
            "BuildTime": BUILD_TIME,
            "Experimental": "false",
            "GitCommit": VERSION,
            "GoVersion": python,
            "KernelVersion": kernel,
            "MinAPIVersion": MIN_API_VERSION,
            "Os": "linux",
        }
        return SystemVersion(
            platform=Platform(name=f"Sampan {VERSION}"),
            components=[
                ComponentVersion(name="Engine", version=ENGINE_VERSION, details=details),
                ComponentVersion(name=RUNTIME, version=VERSION, details={"GitCommit": VERSION}),
            ],
            version=ENGINE_VERSION,
            api_version=API_VERSION,
            min_api_version=MIN_API_VERSION,
            git_commit=VERSION,
            go_version=python,
            arch=architecture,
            kernel_version=kernel,
            build_time=BUILD_TIME,
        )

    async def disk_usage(
        self, objects: Collection[str] = OBJECTS, *, verbose: bool = False
    ) -> DiskUsage:
        """Return what `docker system df` shows; only of the kinds in `objects`.

        With `verbose` also what every byte below the data root belongs to.
        """
        usage = DiskUsage()
        if "image" in objects:
            usage.layers_size = self.inventory.layers_size()
            usage.images = list(await self.inventory.images())
        if "container" in objects:
            usage.containers = list(await self.inventory.containers())
        if "volume" in objects:
            usage.volumes = list(await self.inventory.volumes())
        if "build-cache" in objects:
            usage.build_cache = []
        if verbose:
            usage.storage = await self.inventory.disk()
        return usage


def _limits(facts: host.HostFacts) -> dict[str, Any]:
    """Return what can be limited here; clients warn about flags that are false."""
    return {
        "memory_limit": facts.memory_limit,
        "swap_limit": facts.swap_limit,
        "cpu_cfs_period": facts.cpu_quota,
        "cpu_cfs_quota": facts.cpu_quota,
        "cpu_shares": facts.cpu_shares,
        "cpu_set": facts.cpuset,
        "pids_limit": facts.pids_limit,
        "oom_kill_disable": facts.oom_kill_disable,
        "kernel_memory_tcp": facts.kernel_memory_tcp,
    }


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _now() -> str:
    now = datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond:06d}000Z"
