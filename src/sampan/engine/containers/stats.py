"""Resource use of containers: what the kernel has counted, in Docker's shape.

Read from cgroupfs and /proc without privilege. Source: moby daemon/stats.go, stats_unix.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from msgspec import UNSET

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.host import memory_total
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.cgroups.statistics import BlockCount, Statistics
from sampan.spec.docker.containers import WaitResponse
from sampan.spec.docker.stats import (
    BlkioEntry,
    BlkioStats,
    CPUStats,
    CPUUsage,
    MemoryStats,
    NetworkStats,
    PidsStats,
    StatsResponse,
    ThrottlingData,
)
from sampan.spec.image import timestamp

INTERVAL: Final = 1.0  # seconds, as Docker's
NANOSECONDS_PER_TICK: Final = 10**9 // 100  # USER_HZ, the same on every architecture
_COUNTERS: Final = (  # columns of /proc/net/dev
    ("rx_bytes", 0),
    ("rx_packets", 1),
    ("rx_errors", 2),
    ("rx_dropped", 3),
    ("tx_bytes", 8),
    ("tx_packets", 9),
    ("tx_errors", 10),
    ("tx_dropped", 11),
)


class Stats:
    """Takes samples of running containers."""

    async def samples(
        self, container: Container, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncIterator[StatsResponse]:
        """Yield a sample every second until the container is removed; without `stream`, one.

        A single sample carries the CPU counters of a second before, unless `one_shot`.
        """
        if not stream:
            yield await self._single(container, one_shot=one_shot)
            return
        removed: asyncio.Future[WaitResponse] = asyncio.get_running_loop().create_future()
        container.removals.append(removed)
        previous: StatsResponse | None = None
        try:
            while not removed.done():
                sample = await self.sample(container)
                yield _after(sample, previous)
                previous = sample
                await asyncio.wait((removed,), timeout=INTERVAL)
        finally:
            if removed in container.removals:
                container.removals.remove(removed)
            removed.cancel()

    async def _single(self, container: Container, *, one_shot: bool) -> StatsResponse:
        if one_shot or not container.running:
            return await self.sample(container)
        previous = await self.sample(container)
        await asyncio.sleep(INTERVAL)
        return _after(await self.sample(container), previous)

    async def sample(self, container: Container) -> StatsResponse:
        """Return the counters of now; empty ones if the container does not run."""
        empty = StatsResponse(id=container.id, name=f"/{container.name}")
        if not container.running or not container.cgroup:
            return empty
        try:
            return await blocking(
                _read, container.id, container.name, container.cgroup, container.record.pid
            )
        except OSError:
            return empty  # it has just ended


def _after(sample: StatsResponse, previous: StatsResponse | None) -> StatsResponse:
    if previous is not None:
        sample.preread, sample.precpu_stats = previous.read, previous.cpu_stats
    return sample


def _read(id: str, name: str, cgroup: str, pid: int) -> StatsResponse:
    group = open_cgroup(cgroup)
    if not group.exists():
        raise FileNotFoundError(cgroup)
    found = group.statistics()
    system, count = system_cpu()
    return StatsResponse(
        id=id,
        name=f"/{name}",
        read=timestamp(time.time_ns()),
        cpu_stats=_cpu(found, system, count),
        memory_stats=_memory(found),
        networks=network_counters(pid),
        pids_stats=PidsStats(current=found.pids or UNSET, limit=found.pids_limit or UNSET),
        blkio_stats=_block_io(found),
    )


def _cpu(found: Statistics, system: int, count: int) -> CPUStats:
    cpu = found.cpu
    return CPUStats(
        cpu_usage=CPUUsage(
            total_usage=cpu.total,
            percpu_usage=list(cpu.per_cpu) if cpu.per_cpu else UNSET,
            usage_in_kernelmode=cpu.system,
            usage_in_usermode=cpu.user,
        ),
        system_cpu_usage=system,
        online_cpus=count,
        throttling_data=ThrottlingData(
            periods=cpu.periods,
            throttled_periods=cpu.throttled_periods,
            throttled_time=cpu.throttled_time,
        ),
    )


def _memory(found: Statistics) -> MemoryStats:
    memory = found.memory
    return MemoryStats(
        usage=memory.usage or UNSET,
        max_usage=memory.max_usage or UNSET,
        stats=memory.stat or UNSET,
        failcnt=memory.fail_count or UNSET,
        limit=min(memory.limit, memory_total()),
    )


def _block_io(found: Statistics) -> BlkioStats:
    stats = BlkioStats(
        io_service_bytes_recursive=_entries(found.block_io.service_bytes),
        io_serviced_recursive=_entries(found.block_io.serviced),
    )
    if found.version == 1:
        for name in stats.__struct_fields__:
            if getattr(stats, name) is None:
                setattr(stats, name, [])
    elif not found.block_io.serviced:
        stats.io_serviced_recursive = None
    return stats


def _entries(counts: tuple[BlockCount, ...]) -> list[BlkioEntry]:
    return [
        BlkioEntry(major=each.major, minor=each.minor, op=each.op, value=each.value)
        for each in counts
    ]


def system_cpu() -> tuple[int, int]:
    """Return the nanoseconds that all processors have spent, and how many there are."""
    total, count = 0, 0
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if not line.startswith("cpu"):
                break
            name, *fields = line.split()
            if name == "cpu":
                total = sum(int(field) for field in fields[:7]) * NANOSECONDS_PER_TICK
            else:
                count += 1
    return total, count


def network_counters(pid: int) -> dict[str, NetworkStats]:
    """Return the counters of every interface that a process sees, but for loopback."""
    found = {}
    with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
        for line in file:
            name, colon, rest = line.partition(":")
            fields = rest.split()
            if colon and len(fields) >= 16 and name.strip() != "lo":
                values = {key: int(fields[column]) for key, column in _COUNTERS}
                found[name.strip()] = NetworkStats(**values)
    return found
