"""Bodies of the container endpoints of Docker's Engine API.

Source: moby api/types/container, as API 1.51 shows them. Docker's capitals are irregular.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.spec.docker.hostconfig import HostConfig, Resources, RestartPolicy
from sampan.spec.docker.networks import EndpointSettings, NetworkingConfig, NetworkSettings
from sampan.spec.image import Descriptor

ZERO_TIME = "0001-01-01T00:00:00Z"


# --- create ------------------------------------------------------------------------------------


class HealthConfig(msgspec.Struct, rename="pascal", kw_only=True, omit_defaults=True):
    """How to see that a container is well; times in nanoseconds, 0 inherits the default."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Config(msgspec.Struct, rename="pascal", kw_only=True):
    """What does not depend on the host; None is Docker's null, an empty list means "clear"."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


class CreateRequest(Config, rename="pascal", kw_only=True):
    """The body of POST /containers/create."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class CreateResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of POST /containers/create."""

    id: str
    warnings: list[str] = []


# --- inspect -----------------------------------------------------------------------------------


class HealthLog(msgspec.Struct, rename="pascal", kw_only=True):
    """One probe."""

    start: str
    end: str
    exit_code: int
    output: str


class Health(msgspec.Struct, rename="pascal", kw_only=True):
    """none, starting, healthy or unhealthy, with the last five probes."""

    status: str = "none"
    failing_streak: int = 0
    log: list[HealthLog] | None = None


class State(msgspec.Struct, rename="pascal", kw_only=True):
    """`State` of inspect."""

    status: str = "created"
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
    health: Health | msgspec.UnsetType = msgspec.UNSET


class MountPoint(msgspec.Struct, rename="pascal", kw_only=True):
    """One item of `Mounts`."""

    type: str = ""
    name: str | msgspec.UnsetType = msgspec.UNSET
    source: str = ""
    destination: str = ""
    driver: str | msgspec.UnsetType = msgspec.UNSET
    mode: str = ""
    rw: bool = msgspec.field(default=True, name="RW")
    propagation: str = ""


class GraphDriver(msgspec.Struct, rename="pascal", kw_only=True):
    """The snapshot behind the container."""

    data: dict[str, str] | None = None
    name: str = ""


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
    image_manifest_descriptor: Descriptor | msgspec.UnsetType = msgspec.UNSET
    mount_label: str = ""
    process_label: str = ""
    app_armor_profile: str = ""
    exec_ids: list[str] | None = msgspec.field(default=None, name="ExecIDs")
    host_config: HostConfig
    graph_driver: GraphDriver
    size_rw: int | msgspec.UnsetType = msgspec.UNSET
    size_root_fs: int | msgspec.UnsetType = msgspec.UNSET
    mounts: list[MountPoint] = []
    config: Config
    network_settings: NetworkSettings


# --- list --------------------------------------------------------------------------------------


class Port(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One port of a list item."""

    ip: str = msgspec.field(default="", name="IP")
    private_port: int = msgspec.field(name="PrivatePort")
    public_port: int = msgspec.field(default=0, name="PublicPort")
    type: str = msgspec.field(name="Type")


class SummaryHostConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """The little of HostConfig that the list shows."""

    network_mode: str
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class SummaryNetworkSettings(msgspec.Struct, rename="pascal", kw_only=True):
    """The networks of a list item."""

    networks: dict[str, EndpointSettings] = {}


class ContainerSummary(msgspec.Struct, rename="pascal", kw_only=True):
    """One item of GET /containers/json."""

    id: str
    names: list[str]
    image: str
    image_id: str = msgspec.field(name="ImageID")
    command: str
    created: int  # seconds since the epoch
    ports: list[Port]
    size_rw: int | msgspec.UnsetType = msgspec.UNSET  # bytes; only with size=1
    size_root_fs: int | msgspec.UnsetType = msgspec.UNSET
    labels: dict[str, str]
    state: str
    status: str
    host_config: SummaryHostConfig
    network_settings: SummaryNetworkSettings
    mounts: list[MountPoint]


# --- the rest ----------------------------------------------------------------------------------


class UpdateRequest(Resources, rename="pascal", kw_only=True):
    """The body of POST /containers/{id}/update."""

    restart_policy: RestartPolicy | None = None


class UpdateResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of POST /containers/{id}/update."""

    warnings: list[str] | None = None


class WaitError(msgspec.Struct, rename="pascal", kw_only=True):
    """Why waiting failed."""

    message: str


class WaitResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of POST /containers/{id}/wait."""

    status_code: int
    error: WaitError | msgspec.UnsetType = msgspec.UNSET


class TopResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of GET /containers/{id}/top."""

    processes: list[list[str]]
    titles: list[str]


class PruneReport(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of POST /containers/prune."""

    containers_deleted: list[str] | None = None
    space_reclaimed: int = 0


class CommitResponse(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer of POST /commit."""

    id: str
