"""The limits of a container as the runtime takes them.

Source: moby daemon/oci_linux.go WithResources, daemon_unix.go getMemoryResources and others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Resources, ThrottleDevice
from sampan.spec.runtime import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxMemory,
    LinuxPids,
    LinuxResources,
    LinuxThrottleDevice,
    LinuxWeightDevice,
)

PERIOD = 100_000  # microseconds


def linux_resources(r: Resources) -> LinuxResources:
    """Return the limits as the runtime takes them, without devices.

    Raises InvalidArgument for a block device that is not there.
    """
    return LinuxResources(
        memory=_memory(r),
        cpu=_cpu(r),
        pids=None
        if r.pids_limit is None
        else LinuxPids(limit=r.pids_limit if r.pids_limit > 0 else -1),
        block_io=_block_io(r),
    )


def _memory(r: Resources) -> LinuxMemory | None:
    memory = LinuxMemory(
        limit=r.memory if r.memory > 0 else None,
        reservation=r.memory_reservation if r.memory_reservation > 0 else None,
        swap=r.memory_swap if r.memory_swap > 0 or (r.memory_swap == -1 and r.memory) else None,
        kernel_tcp=r.kernel_memory_tcp or None,
        swappiness=r.memory_swappiness,
        disable_oom_killer=r.oom_kill_disable or None,
    )
    return memory if memory != LinuxMemory() else None


def _cpu(r: Resources) -> LinuxCPU | None:
    cpu = LinuxCPU(
        shares=r.cpu_shares or None,
        cpus=r.cpuset_cpus,
        mems=r.cpuset_mems,
        realtime_period=r.cpu_realtime_period or None,
        realtime_runtime=r.cpu_realtime_runtime or None,
    )
    if r.nano_cpus > 0:
        cpu.period, cpu.quota = PERIOD, r.nano_cpus * PERIOD // 10**9
    if r.cpu_period:
        cpu.period = r.cpu_period
    if r.cpu_quota:
        cpu.quota = r.cpu_quota
    return cpu if cpu != LinuxCPU() else None


def _block_io(r: Resources) -> LinuxBlockIO | None:
    weights = []
    for each in r.blkio_weight_device or ():
        major, minor = _device_numbers(each.path)
        weights.append(LinuxWeightDevice(major=major, minor=minor, weight=each.weight))
    found = LinuxBlockIO(
        weight=r.blkio_weight or None,
        weight_device=weights,
        throttle_read_bps_device=_throttles(r.blkio_device_read_bps),
        throttle_write_bps_device=_throttles(r.blkio_device_write_bps),
        throttle_read_iops_device=_throttles(r.blkio_device_read_iops),
        throttle_write_iops_device=_throttles(r.blkio_device_write_iops),
    )
    return found if found != LinuxBlockIO() else None


def _throttles(devices: Sequence[ThrottleDevice] | None) -> list[LinuxThrottleDevice]:
    found = []
    for each in devices or ():
        major, minor = _device_numbers(each.path)
        found.append(LinuxThrottleDevice(major=major, minor=minor, rate=each.rate))
    return found


def _device_numbers(path: str) -> tuple[int, int]:
    try:
        number = os.stat(path).st_rdev
    except (OSError, ValueError) as error:
        reason = os.strerror(getattr(error, "errno", 0) or 22).lower()
        raise InvalidArgument(f"stat {path}: {reason}") from None
    return os.major(number), os.minor(number)
