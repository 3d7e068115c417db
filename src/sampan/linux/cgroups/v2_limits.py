"""The limits of the OCI specification as files of cgroup v2.

Source: Documentation/admin-guide/cgroup-v2.rst, opencontainers/cgroups fs2 and utils.go.
"""

from __future__ import annotations

import errno
import math

from sampan.linux.cgroups import limits
from sampan.linux.cgroups.files import Directory
from sampan.spec.runtime import LinuxBlockIO, LinuxCPU, LinuxMemory, LinuxResources


def needed(resources: LinuxResources) -> set[str]:
    """Return the controllers that these limits need."""
    wanted = {
        "memory": resources.memory is not None,
        "cpu": resources.cpu is not None,
        "cpuset": resources.cpu is not None and bool(resources.cpu.cpus or resources.cpu.mems),
        "pids": resources.pids is not None,
        "io": resources.block_io is not None,
        "hugetlb": bool(resources.hugepage_limits),
        "rdma": bool(resources.rdma),
    }
    named = {key.partition(".")[0] for key in resources.unified} - {"cgroup"}
    return {controller for controller, is_wanted in wanted.items() if is_wanted} | named


def apply(directory: Directory, resources: LinuxResources) -> list[str]:
    """Write all limits but devices; returns warnings, raises OSError for refused values."""
    warnings: list[str] = []
    if resources.memory is not None:
        warnings += _memory(directory, resources.memory)
    if resources.cpu is not None:
        warnings += _cpu(directory, resources.cpu)
    if resources.pids is not None and resources.pids.limit is not None:
        limit = resources.pids.limit
        warnings += limits.write(directory, "pids.max", limit if limit > 0 else "max")
    if resources.block_io is not None:
        warnings += _io(directory, resources.block_io)
    for page in resources.hugepage_limits:
        size = limits.page_size(page)
        warnings += limits.write(directory, f"hugetlb.{size}.max", page.limit)
        if directory.has(f"hugetlb.{size}.rsvd.max"):
            directory.write(f"hugetlb.{size}.rsvd.max", page.limit)
    if resources.rdma:
        limits.rdma(directory, resources.rdma)
    for name, value in resources.unified.items():
        _unified(directory, name, value)
    if resources.network is not None and (
        resources.network.class_id or resources.network.priorities
    ):
        warnings.append("cgroup v2 has no network classes; they are discarded")
    return warnings


def _unified(directory: Directory, name: str, value: str) -> None:
    if "/" in name or "." not in name or name.startswith("."):
        raise OSError(errno.EINVAL, "a unified resource must name a file of the cgroup", name)
    for line in value.splitlines() or [value]:
        try:
            directory.write(name, line)
        except FileNotFoundError:
            controller = name.partition(".")[0]
            text = f"unified resource can't be set: controller {controller!r} not available"
            raise OSError(errno.ENOTSUP, text, name) from None


def _memory(directory: Directory, memory: LinuxMemory) -> list[str]:
    warnings: list[str] = []
    limit, swap = memory.limit or None, memory.swap or None
    if limit is not None and memory.check_before_update:
        limits.check_usage(limit, directory.number("memory.current"))
    total = limit
    if limit is None and swap is not None:  # an update of the sum alone
        total = directory.number("memory.max") or None
    swap_alone = swap_limit(total, swap)
    if swap_alone is not None and not directory.has("memory.swap.max"):
        warnings.append("swap cannot be limited here; memory is limited without swap")
        swap_alone = None
    warnings += limits.write(directory, "memory.swap.max", swap_alone)
    if limit is not None:
        warnings += limits.write(directory, "memory.max", _or_max(limit))
    if memory.reservation:
        warnings += limits.write(directory, "memory.low", _or_max(memory.reservation))
    if memory.swappiness is not None and memory.swappiness != -1:
        warnings.append("cgroup v2 has no memory swappiness; it is discarded")
    if memory.disable_oom_killer:
        warnings.append("cgroup v2 cannot disable the OOM killer; the setting is discarded")
    return warnings


def swap_limit(memory: int | None, swap: int | None) -> str | None:
    """Convert v1's memory-plus-swap limit to v2's limit of swap alone; None leaves it as it is.

    Raises OSError (EINVAL) where the two contradict each other.
    """
    if swap is None:
        return "max" if memory == -1 else None
    if swap == -1:
        return "max"
    if memory is None or memory == -1:
        raise OSError(errno.EINVAL, "a swap limit needs a memory limit", "memory.swap.max")
    if swap < memory:
        text = "the memory+swap limit must not be below the memory limit"
        raise OSError(errno.EINVAL, text, "memory.swap.max")
    return str(swap - memory)


def _or_max(value: int) -> str | int:
    return "max" if value == -1 else value


def cpu_weight(shares: int) -> int:
    """Convert cgroup v1 cpu.shares (2..262144, default 1024) to v2 cpu.weight (1..10000, 100).

    Source: opencontainers/cgroups utils.go, ConvertCPUSharesToCgroupV2Value (quadratic fit).
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = math.log2(shares)
    exponent = (power * power + 125 * power) / 612.0 - 7.0 / 34.0
    return math.ceil(10**exponent)


def _cpu(directory: Directory, cpu: LinuxCPU) -> list[str]:
    warnings: list[str] = []
    if cpu.shares:
        warnings += limits.write(directory, "cpu.weight", cpu_weight(cpu.shares))
    warnings += limits.write(directory, "cpu.idle", cpu.idle)
    bandwidth = None
    if cpu.quota or cpu.period:
        quota, period = directory.read_or("cpu.max", "max 100000").split()
        if cpu.quota:
            quota = str(cpu.quota) if cpu.quota > 0 else "max"
        bandwidth = f"{quota} {cpu.period or period}"
    warnings += limits.settle(directory, {"cpu.max": bandwidth, "cpu.max.burst": cpu.burst})
    if cpu.realtime_runtime or cpu.realtime_period:
        warnings.append("cgroup v2 has no real-time limits; they are discarded")
    warnings += limits.write(directory, "cpuset.cpus", cpu.cpus or None)
    warnings += limits.write(directory, "cpuset.mems", cpu.mems or None)
    return warnings


def io_weight(weight: int) -> int:
    """Convert cgroup v1 blkio.weight (10..1000) to v2 io.weight (1..10000)."""
    return 1 + (weight - 10) * 9999 // 990


def _io(directory: Directory, block: LinuxBlockIO) -> list[str]:
    warnings: list[str] = []
    bfq = directory.has("io.bfq.weight")
    if block.weight:
        name, value = (
            ("io.bfq.weight", block.weight) if bfq else ("io.weight", io_weight(block.weight))
        )
        warnings += limits.write(directory, name, value)
    for device in block.weight_device:
        if device.weight:
            weight = device.weight if bfq else io_weight(device.weight)
            name = "io.bfq.weight" if bfq else "io.weight"
            warnings += limits.write(directory, name, f"{device.major}:{device.minor} {weight}")
    for key, throttles in (
        ("rbps", block.throttle_read_bps_device),
        ("wbps", block.throttle_write_bps_device),
        ("riops", block.throttle_read_iops_device),
        ("wiops", block.throttle_write_iops_device),
    ):
        for throttle in throttles:
            rate = throttle.rate or "max"
            value_text = f"{throttle.major}:{throttle.minor} {key}={rate}"
            warnings += limits.write(directory, "io.max", value_text)
    return warnings
