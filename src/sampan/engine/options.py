"""The options of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sampan.engine.images.distribution.transfers import TransferLimits
from sampan.engine.networks.networks import NetworkOptions
from sampan.engine.oci.cdi import DeviceNames
from sampan.engine.oci.cgroup_placement import CgroupPlacement
from sampan.engine.oci.security import Confinement
from sampan.engine.oci.user_namespaces import UserOptions
from sampan.spec.docker.config import Ulimit
from sampan.volumes.plugin import SECONDS as PLUGIN_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The daemon's options that concern containers (dockerd's names)."""

    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    default_ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    default_shm_size: int = 64 << 20
    confinement: Confinement = field(default_factory=Confinement)
    device_names: DeviceNames = field(default_factory=DeviceNames)
    placement: CgroupPlacement = field(default_factory=CgroupPlacement)
    init: bool = False
    live_restore: bool = True
    storage_options: Sequence[str] = ()  # --storage-opt of the daemon
    network: NetworkOptions = field(default_factory=NetworkOptions)
    users: UserOptions = field(default_factory=UserOptions)
    transfers: TransferLimits = field(default_factory=TransferLimits)
    plugin_seconds: float = PLUGIN_SECONDS  # that a volume plug-in may take for an answer
