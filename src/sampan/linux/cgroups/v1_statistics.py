"""Reading the counters of cgroup v1."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sampan.linux.cgroups.files import Directory, page_sizes
from sampan.linux.cgroups.statistics import (
    UNLIMITED,
    BlockCount,
    BlockStatistics,
    CPUStatistics,
    HugetlbStatistics,
    MemoryStatistics,
    Statistics,
)

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # nanoseconds


def read(directories: Mapping[str, Directory]) -> Statistics:
    """Read everything that these controllers count."""
    pids = directories.get("pids")
    return Statistics(
        version=1,
        cpu=_cpu(directories.get("cpu"), directories.get("cpuacct")),
        memory=_memory(directories.get("memory")),
        block_io=_block_io(directories.get("blkio")),
        pids=pids.number("pids.current") if pids else 0,
        pids_limit=pids.number("pids.max") if pids else 0,
        hugetlb=_hugetlb(directories.get("hugetlb")),
    )


def _cpu(cpu: Directory | None, account: Directory | None) -> CPUStatistics:
    throttled = cpu.table("cpu.stat") if cpu else {}
    total = user = system = 0
    per_cpu: tuple[int, ...] = ()
    if account:
        total = account.number("cpuacct.usage")
        per_cpu = tuple(map(int, account.read_or("cpuacct.usage_percpu", "").split()))
        ticks = account.table("cpuacct.stat")
        user, system = ticks.get("user", 0) * _TICK, ticks.get("system", 0) * _TICK
    return CPUStatistics(
        total=total,
        user=user,
        system=system,
        per_cpu=per_cpu,
        periods=throttled.get("nr_periods", 0),
        throttled_periods=throttled.get("nr_throttled", 0),
        throttled_time=throttled.get("throttled_time", 0),
    )


def _memory(memory: Directory | None) -> MemoryStatistics:
    if memory is None:
        return MemoryStatistics()
    return MemoryStatistics(
        usage=memory.number("memory.usage_in_bytes"),
        max_usage=memory.number("memory.max_usage_in_bytes"),
        limit=memory.number("memory.limit_in_bytes", UNLIMITED),
        fail_count=memory.number("memory.failcnt"),
        oom_kills=memory.table("memory.oom_control").get("oom_kill", 0),
        swap_usage=memory.number("memory.memsw.usage_in_bytes"),
        swap_limit=memory.number("memory.memsw.limit_in_bytes", UNLIMITED),
        stat=memory.table("memory.stat"),
    )


def _block_io(blkio: Directory | None) -> BlockStatistics:
    if blkio is None:
        return BlockStatistics()
    for prefix in ("blkio.bfq.io_", "blkio.throttle.io_"):
        counted = block_counts(blkio.read_or(f"{prefix}service_bytes_recursive", ""))
        if counted:  # only the scheduler in use counts
            serviced = blkio.read_or(f"{prefix}serviced_recursive", "")
            return BlockStatistics(counted, block_counts(serviced))
    return BlockStatistics()


def block_counts(content: str) -> tuple[BlockCount, ...]:
    """Parse `8:0 Read 4096` lines; the grand total at the end is left out."""
    counts = []
    for entry in content.splitlines():
        device, _, rest = entry.partition(" ")
        major, _, minor = device.partition(":")
        operation, _, value = rest.partition(" ")
        if minor.isdigit() and value.isdigit():
            counts.append(BlockCount(int(major), int(minor), operation, int(value)))
    return tuple(counts)


def _hugetlb(directory: Directory | None) -> dict[str, HugetlbStatistics]:
    if directory is None:
        return {}
    return {
        size: HugetlbStatistics(
            usage=directory.number(f"hugetlb.{size}.usage_in_bytes"),
            max_usage=directory.number(f"hugetlb.{size}.max_usage_in_bytes"),
            fail_count=directory.number(f"hugetlb.{size}.failcnt"),
        )
        for size in page_sizes(directory, ".usage_in_bytes")
    }
