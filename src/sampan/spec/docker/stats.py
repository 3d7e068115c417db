"""The samples of GET /containers/{id}/stats. Source: moby api/types/container/stats.go."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

ZERO_TIME = "0001-01-01T00:00:00Z"


class ThrottlingData(msgspec.Struct, kw_only=True):
    """How often the CPU quota stopped the container; time in nanoseconds."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CPUUsage(msgspec.Struct, kw_only=True):
    """Nanoseconds of CPU time."""

    total_usage: int = 0
    percpu_usage: list[int] | UnsetType = UNSET  # cgroup v1 only
    usage_in_kernelmode: int = 0
    usage_in_usermode: int = 0


class CPUStats(msgspec.Struct, kw_only=True):
    """CPU time of the container, and of the whole host beside it."""

    cpu_usage: CPUUsage = msgspec.field(default_factory=CPUUsage)
    system_cpu_usage: int | UnsetType = UNSET
    online_cpus: int | UnsetType = UNSET
    throttling_data: ThrottlingData = msgspec.field(default_factory=ThrottlingData)


class MemoryStats(msgspec.Struct, kw_only=True):
    """Bytes; `stats` is memory.stat."""

    usage: int | UnsetType = UNSET
    max_usage: int | UnsetType = UNSET
    stats: dict[str, int] | UnsetType = UNSET
    failcnt: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET


class NetworkStats(msgspec.Struct, kw_only=True):
    """Counters of one interface."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class PidsStats(msgspec.Struct, kw_only=True):
    """Number of processes, and how many there may be (none: no limit)."""

    current: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET


class BlkioEntry(msgspec.Struct, kw_only=True):
    """One counter of one block device."""

    major: int
    minor: int
    op: str
    value: int


class BlkioStats(msgspec.Struct, kw_only=True):
    """Block I/O; what this kernel does not count is null."""

    io_service_bytes_recursive: list[BlkioEntry] | None = None
    io_serviced_recursive: list[BlkioEntry] | None = None
    io_queue_recursive: list[BlkioEntry] | None = None
    io_service_time_recursive: list[BlkioEntry] | None = None
    io_wait_time_recursive: list[BlkioEntry] | None = None
    io_merged_recursive: list[BlkioEntry] | None = None
    io_time_recursive: list[BlkioEntry] | None = None
    sectors_recursive: list[BlkioEntry] | None = None


class StatsResponse(msgspec.Struct, kw_only=True):
    """One sample, with the CPU counters of the one before."""

    id: str
    name: str  # with its slash
    os_type: str = "linux"
    read: str = ZERO_TIME
    cpu_stats: CPUStats = msgspec.field(default_factory=CPUStats)
    memory_stats: MemoryStats = msgspec.field(default_factory=MemoryStats)
    networks: dict[str, NetworkStats] | UnsetType = UNSET
    pids_stats: PidsStats = msgspec.field(default_factory=PidsStats)
    blkio_stats: BlkioStats = msgspec.field(default_factory=BlkioStats)
    num_procs: int = 0
    storage_stats: dict[str, int] = {}
    preread: str = ZERO_TIME
    precpu_stats: CPUStats = msgspec.field(default_factory=CPUStats)
