"""Reading the counters of cgroup v2, in the units and shapes of v1 where both have them."""

from __future__ import annotations

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


def read(directory: Directory) -> Statistics:
    """Read everything that the cgroup's controllers count."""
    return Statistics(
        version=2,
        cpu=_cpu(directory.table("cpu.stat")),
        memory=_memory(directory),
        block_io=block_statistics(directory.read_or("io.stat", "")),
        pids=directory.number("pids.current"),
        pids_limit=directory.number("pids.max"),
        hugetlb=hugetlb(directory),
    )


def _cpu(stat: dict[str, int]) -> CPUStatistics:
    return CPUStatistics(
        total=stat.get("usage_usec", 0) * 1000,
        user=stat.get("user_usec", 0) * 1000,
        system=stat.get("system_usec", 0) * 1000,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_time=stat.get("throttled_usec", 0) * 1000,
    )


def _memory(directory: Directory) -> MemoryStatistics:
    events = directory.table("memory.events")
    return MemoryStatistics(
        usage=directory.number("memory.current"),
        max_usage=directory.number("memory.peak"),
        limit=directory.number("memory.max", UNLIMITED),
        fail_count=events.get("oom", 0),  # as Docker's: moby daemon/stats_unix.go statsV2
        oom_kills=events.get("oom_kill", 0),
        swap_usage=directory.number("memory.swap.current"),
        swap_limit=directory.number("memory.swap.max", UNLIMITED),
        stat=directory.table("memory.stat"),
    )


def block_statistics(content: str) -> BlockStatistics:
    """Parse io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`."""
    service: list[BlockCount] = []
    serviced: list[BlockCount] = []
    tables = {
        "rbytes": (service, "read"),
        "wbytes": (service, "write"),
        "rios": (serviced, "read"),
        "wios": (serviced, "write"),
    }
    for entry in content.splitlines():
        device, *pairs = entry.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in tables and minor.isdigit() and value.isdigit():
                table, operation = tables[key]
                table.append(BlockCount(int(major), int(minor), operation, int(value)))
    return BlockStatistics(tuple(service), tuple(serviced))


def hugetlb(directory: Directory) -> dict[str, HugetlbStatistics]:
    """Read what the hugetlb controller counts; v2 keeps no peak."""
    return {
        size: HugetlbStatistics(
            usage=directory.number(f"hugetlb.{size}.current"),
            max_usage=0,
            fail_count=directory.table(f"hugetlb.{size}.events").get("max", 0),
        )
        for size in page_sizes(directory, ".current")
    }
