"""The limits of the OCI specification as files of cgroup v1.

Source: Documentation/admin-guide/cgroup-v1, opencontainers/cgroups fs.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from sampan.linux.cgroups import limits
from sampan.linux.cgroups.files import Directory
from sampan.spec.runtime import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxHugepageLimit,
    LinuxMemory,
    LinuxNetwork,
    LinuxResources,
)

Directories = Mapping[str, Directory]
"""Controller → its open directory; a controller that this host lacks is not there."""


def apply(directories: Directories, resources: LinuxResources, *, new: bool) -> list[str]:
    """Write all limits but devices and huge pages; returns warnings.

    `new` says that the cgroup still has its defaults, which saves reading them. Raises OSError
    for a value that the kernel refuses.
    """
    warnings: list[str] = []

    def at(controller: str, wanted: object) -> Directory | None:
        """Return the directory to write to, if something is wanted and can be had."""
        if wanted is None or wanted == {}:
            return None
        if controller not in directories:
            warnings.append(limits.missing(controller))
        return directories.get(controller)

    if resources.memory is not None and (where := at("memory", resources.memory)):
        warnings += _memory(where, resources.memory, new=new)
    if resources.cpu is not None:
        warnings += _cpu(directories, resources.cpu)
    if resources.pids is not None and (where := at("pids", resources.pids.limit)):
        limit = resources.pids.limit or 0
        if limit > 0 or not new:
            where.write("pids.max", limit if limit > 0 else "max")
    if resources.block_io is not None and (where := at("blkio", resources.block_io)):
        warnings += _block_io(where, resources.block_io)
    if resources.network is not None:
        warnings += _network(directories, resources.network)
    if where := at("rdma", resources.rdma):
        limits.rdma(where, resources.rdma)
    return warnings


# --- memory ----------------------------------------------------------------------------------


def _memory(directory: Directory, memory: LinuxMemory, *, new: bool) -> list[str]:
    warnings = _memory_and_swap(directory, memory, new=new)
    warnings += limits.write(directory, "memory.soft_limit_in_bytes", memory.reservation or None)
    warnings += limits.write(directory, "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp or None)
    if memory.swappiness is not None and memory.swappiness != -1:
        warnings += limits.write(directory, "memory.swappiness", memory.swappiness)
    if memory.disable_oom_killer or (memory.disable_oom_killer is False and not new):
        warnings += limits.write(directory, "memory.oom_control", int(memory.disable_oom_killer))
    return warnings


def _memory_and_swap(directory: Directory, memory: LinuxMemory, *, new: bool) -> list[str]:
    """Write limit and limit-with-swap in the order that the kernel accepts.

    At every moment the limit must not exceed the one that includes swap.
    """
    limit, swap = memory.limit or None, memory.swap or None
    warnings: list[str] = []
    if swap is not None and not directory.has("memory.memsw.limit_in_bytes"):
        warnings.append("swap cannot be limited here; memory is limited without swap")
        swap = None
    if limit is not None and memory.check_before_update:
        limits.check_usage(limit, directory.number("memory.usage_in_bytes"))
    if limit == -1 and swap is None and not new and directory.has("memory.memsw.limit_in_bytes"):
        swap = -1  # an unlimited limit is above any limit that includes swap
    steps = [("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", swap)]
    if not new and swap is not None:
        current = directory.number("memory.limit_in_bytes")
        if swap == -1 or current < swap:
            steps.reverse()
    for name, value in steps:
        if value is not None:
            _write_memory(directory, name, value)
    return warnings


def _write_memory(directory: Directory, name: str, value: int) -> None:
    try:
        directory.write(name, value)
    except OSError as failure:
        if failure.errno != errno.EBUSY:
            raise
        usage = directory.number("memory.usage_in_bytes")
        peak = directory.number("memory.max_usage_in_bytes")
        text = f"unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})"
        raise OSError(errno.EBUSY, text, name) from None


# --- cpu -------------------------------------------------------------------------------------


def _cpu(directories: Directories, cpu: LinuxCPU) -> list[str]:
    warnings: list[str] = []
    bandwidth = (cpu.shares, cpu.idle, cpu.period, cpu.quota, cpu.burst)
    realtime = (cpu.realtime_period, cpu.realtime_runtime)
    if any(value is not None for value in bandwidth + realtime):
        if directory := directories.get("cpu"):
            warnings += limits.write(directory, "cpu.shares", cpu.shares or None)
            warnings += limits.write(directory, "cpu.idle", cpu.idle)
            warnings += limits.settle(
                directory,
                {
                    "cpu.cfs_period_us": cpu.period or None,
                    "cpu.cfs_quota_us": cpu.quota or None,
                    "cpu.cfs_burst_us": cpu.burst,
                },
            )
            realtime_files = {
                "cpu.rt_period_us": cpu.realtime_period or None,
                "cpu.rt_runtime_us": cpu.realtime_runtime or None,
            }
            warnings += limits.settle(directory, realtime_files)
        else:
            warnings.append(limits.missing("cpu"))
    if cpu.cpus or cpu.mems:
        if directory := directories.get("cpuset"):
            warnings += limits.write(directory, "cpuset.cpus", cpu.cpus or None)
            warnings += limits.write(directory, "cpuset.mems", cpu.mems or None)
        else:
            warnings.append(limits.missing("cpuset"))
    return warnings


# --- block I/O -------------------------------------------------------------------------------


def _block_io(directory: Directory, block: LinuxBlockIO) -> list[str]:
    warnings: list[str] = []
    prefix = "blkio" if directory.has("blkio.weight") else "blkio.bfq"
    warnings += limits.write(directory, f"{prefix}.weight", block.weight or None)
    warnings += limits.write(directory, "blkio.leaf_weight", block.leaf_weight or None)
    for device in block.weight_device:
        where = f"{device.major}:{device.minor}"
        if device.weight:
            warnings += limits.write(
                directory, f"{prefix}.weight_device", f"{where} {device.weight}"
            )
        if device.leaf_weight:
            value = f"{where} {device.leaf_weight}"
            warnings += limits.write(directory, "blkio.leaf_weight_device", value)
    for name, throttles in (
        ("read_bps_device", block.throttle_read_bps_device),
        ("write_bps_device", block.throttle_write_bps_device),
        ("read_iops_device", block.throttle_read_iops_device),
        ("write_iops_device", block.throttle_write_iops_device),
    ):
        for throttle in throttles:
            value = f"{throttle.major}:{throttle.minor} {throttle.rate}"
            warnings += limits.write(directory, f"blkio.throttle.{name}", value)
    return warnings


# --- the rest --------------------------------------------------------------------------------


def hugetlb(directory: Directory, pages: list[LinuxHugepageLimit]) -> list[str]:
    """Limit huge pages, and their reservations where the kernel counts them."""
    warnings: list[str] = []
    for page in pages:
        size = limits.page_size(page)
        warnings += limits.write(directory, f"hugetlb.{size}.limit_in_bytes", page.limit)
        if directory.has(f"hugetlb.{size}.rsvd.limit_in_bytes"):
            directory.write(f"hugetlb.{size}.rsvd.limit_in_bytes", page.limit)
    return warnings


def _network(directories: Directories, network: LinuxNetwork) -> list[str]:
    warnings: list[str] = []
    if network.class_id:
        if directory := directories.get("net_cls"):
            directory.write("net_cls.classid", network.class_id)
        else:
            warnings.append(limits.missing("net_cls"))
    if network.priorities:
        if directory := directories.get("net_prio"):
            for priority in network.priorities:
                directory.write("net_prio.ifpriomap", f"{priority.name} {priority.priority}")
        else:
            warnings.append(limits.missing("net_prio"))
    return warnings
