"""What the kernel counts for a cgroup, in one shape for both versions."""

from __future__ import annotations

from dataclasses import dataclass, field

UNLIMITED = (1 << 63) - 4096  # PAGE_COUNTER_MAX in bytes: what v1 prints for "no limit"


@dataclass(frozen=True, slots=True)
class BlockCount:
    """One line of a block I/O table."""

    major: int
    minor: int
    op: str  # v1: Read, Write, Sync, Async, Discard, Total; v2: read, write
    value: int


@dataclass(frozen=True, slots=True)
class CPUStatistics:
    """Nanoseconds, but for the two counts of periods."""

    total: int = 0
    user: int = 0
    system: int = 0
    per_cpu: tuple[int, ...] = ()  # v1 only
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


@dataclass(frozen=True, slots=True)
class MemoryStatistics:
    """Bytes, but for counts of failures; `limit` is UNLIMITED where there is none."""

    usage: int = 0
    max_usage: int = 0
    limit: int = UNLIMITED
    fail_count: int = 0  # v1: failcnt; v2: OOM kills, as Docker reports
    oom_kills: int = 0
    swap_usage: int = 0  # v1: memory and swap together; v2: swap alone
    swap_limit: int = UNLIMITED
    stat: dict[str, int] = field(default_factory=dict)  # memory.stat


@dataclass(frozen=True, slots=True)
class BlockStatistics:
    """The tables of Docker's blkio_stats that the kernel can fill."""

    service_bytes: tuple[BlockCount, ...] = ()
    serviced: tuple[BlockCount, ...] = ()


@dataclass(frozen=True, slots=True)
class HugetlbStatistics:
    """Bytes of huge pages of one size."""

    usage: int
    max_usage: int
    fail_count: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the kernel has counted for a cgroup and all below it."""

    version: int  # 1 or 2
    cpu: CPUStatistics
    memory: MemoryStatistics
    block_io: BlockStatistics
    pids: int = 0
    pids_limit: int = 0  # 0 means no limit
    hugetlb: dict[str, HugetlbStatistics] = field(default_factory=dict)
