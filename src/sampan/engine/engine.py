"""The engine: its components and its nouns, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sampan.engine.containers import Containers
from sampan.engine.events import Events
from sampan.engine.execs import Execs
from sampan.engine.images import Images
from sampan.engine.networks import NetworkOptions, Networks
from sampan.network.plumber import Plumber
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.config import Ulimit
from sampan.spec.docker.networks import NetworkConnectRequest, NetworkDisconnectRequest
from sampan.storage.mounter import Mounter


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The daemon's options that concern containers (dockerd's names)."""

    log_driver: str = "json-file"
    log_options: dict[str, str] = field(default_factory=dict)
    default_ulimits: dict[str, Ulimit] = field(default_factory=dict)
    default_shm_size: int = 64 << 20
    init: bool = False
    shutdown_timeout: int = 15
    live_restore: bool = True
    storage_driver: str = "overlay"
    network: NetworkOptions = field(default_factory=NetworkOptions)


class Engine:
    """Everything the daemon does, callable as a library; use it as an async context manager.

    Entering compares what is on disk with what runs, and repairs; leaving lets containers be.
    """

    containers: Containers
    execs: Execs
    images: Images
    networks: Networks
    events: Events

    def __init__(
        self,
        *,
        mounter: Mounter,
        plumber: Plumber,
        spawner: Spawner,
        data_root: Path,
        options: EngineOptions | None = None,
    ) -> None: ...

    async def connect_network(self, network: str, request: NetworkConnectRequest) -> None:
        """Connect a container with a network."""

    async def disconnect_network(self, network: str, request: NetworkDisconnectRequest) -> None:
        """Take a container off a network."""
