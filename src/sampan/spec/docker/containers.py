"""Bodies of the container endpoints of Docker's Engine API, as version 1.51 has them.

Source: moby api/types/container. `Config` and `HostConfig` are in `config.py`, the samples of
`stats` in `stats.py`.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from sampan.spec.docker.config import Config, HostConfig, Resources, RestartPolicy
from sampan.spec.docker.images import DriverData
from sampan.spec.docker.networks import (
    EndpointSettings,
    NetworkingConfig,
    NetworkSettings,
    PortBinding,
)
from sampan.spec.image import Descriptor

ZERO_TIME = "0001-01-01T00:00:00Z"  # Go's time.Time{}


class CreateRequest(Config, rename="pascal", kw_only=True):
    """The body of POST /containers/create: a Config with more fields."""

    host_config: HostConfig = msgspec.field(default_factory=HostConfig)
    networking_config: NetworkingConfig | None = None
    runtime: str = ""  # docker-py says it here, not in HostConfig


class CreateResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /containers/create."""

    id: str
    warnings: list[str] = []


class UpdateRequest(Resources, rename="pascal", kw_only=True):
    """The body of POST /containers/{id}/update; zero values leave things as they are."""

    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    # Ours, not Docker's: ports of a container that exists.
    publish_add: dict[str, list[PortBinding] | None] | None = None
    publish_remove: list[str] | None = None  # [[IP:]HOST_PORT:]PORT[/PROTOCOL]


class UpdateResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /containers/{id}/update."""

    warnings: list[str] | None = None


class WaitError(msgspec.Struct, rename="pascal", kw_only=True):
    """Why the end of a container is not known as it should be."""

    message: str


class WaitResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /containers/{id}/wait."""

    error: WaitError | UnsetType = UNSET
    status_code: int


class TopResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to GET /containers/{id}/top: the columns of ps(1)."""

    processes: list[list[str]]
    titles: list[str]


class FilesystemChange(msgspec.Struct, rename="pascal", kw_only=True):
    """One item of GET /containers/{id}/changes: 0 modified, 1 added, 2 deleted."""

    path: str
    kind: int


class ContainersPruneReport(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /containers/prune."""

    containers_deleted: list[str] | None = None
    space_reclaimed: int = 0


class CommitResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /commit."""

    id: str


# --- state -------------------------------------------------------------------------------------


class HealthcheckResult(msgspec.Struct, rename="pascal", kw_only=True):
    """One run of the health check."""

    start: str
    end: str
    exit_code: int
    output: str


class Health(msgspec.Struct, rename="pascal", kw_only=True):
    """`State.Health` of inspect; the log holds the last five results, oldest first."""

    status: str = "starting"  # none, starting, healthy, unhealthy
    failing_streak: int = 0
    log: list[HealthcheckResult] = []


class State(msgspec.Struct, rename="pascal", kw_only=True):
    """`State` of inspect."""

    status: str  # created, running, paused, restarting, removing, exited, dead
    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = ZERO_TIME
    finished_at: str = ZERO_TIME
    health: Health | UnsetType = UNSET


class MountPoint(msgspec.Struct, rename="pascal", kw_only=True):
    """One item of `Mounts` of inspect and list."""

    type: str
    name: str | UnsetType = UNSET
    source: str = ""
    destination: str
    driver: str | UnsetType = UNSET
    mode: str = ""
    rw: bool = msgspec.field(default=True, name="RW")
    propagation: str = ""


class ContainerInspect(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of GET /containers/{id}/json."""

    id: str
    created: str
    path: str
    args: list[str]
    state: State
    image: str
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    log_path: str = ""
    name: str
    restart_count: int = 0
    driver: str = ""
    platform: str = "linux"
    mount_label: str = ""
    process_label: str = ""
    app_armor_profile: str = ""
    exec_ids: list[str] | None = msgspec.field(default=None, name="ExecIDs")
    host_config: HostConfig
    graph_driver: DriverData = msgspec.field(default_factory=DriverData)
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
    mounts: list[MountPoint]
    config: Config
    network_settings: NetworkSettings
    image_manifest_descriptor: Descriptor | UnsetType = UNSET


# --- list --------------------------------------------------------------------------------------


class Port(msgspec.Struct, kw_only=True):
    """One item of `Ports` of the list."""

    ip: str | UnsetType = msgspec.field(default=UNSET, name="IP")
    private_port: int = msgspec.field(name="PrivatePort")
    public_port: int | UnsetType = msgspec.field(default=UNSET, name="PublicPort")
    type: str = msgspec.field(name="Type")


class SummaryHostConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """What the list shows of HostConfig."""

    network_mode: str | UnsetType = UNSET
    annotations: dict[str, str] | UnsetType = UNSET


class SummaryNetworkSettings(msgspec.Struct, rename="pascal", kw_only=True):
    """What the list shows of NetworkSettings."""

    networks: dict[str, EndpointSettings] = {}


class ContainerSummary(msgspec.Struct, rename="pascal", kw_only=True):
    """One item of GET /containers/json."""

    id: str
    names: list[str]
    image: str
    image_id: str = msgspec.field(name="ImageID")
    image_manifest_descriptor: Descriptor | UnsetType = UNSET
    command: str
    created: int  # seconds since the epoch
    ports: list[Port]
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
    labels: dict[str, str]
    state: str
    status: str
    host_config: SummaryHostConfig
    network_settings: SummaryNetworkSettings
    mounts: list[MountPoint]
