"""Limits: what users may ask for, and what this kernel can do.

Source: moby daemon/daemon_unix.go verifyPlatformContainerResources, getCPUResources and others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from sampan.engine.host import (
    CGROUP_ROOT,
    HostFacts,
    host_facts,
    may_raise_limits,
    read_line,
)
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Resources

MIN_MEMORY = 6 << 20
MIN_NANO_CPUS = 10**7  # a quota of a millisecond, the kernel's least, in 100
MAX_PIDS = 4 << 20  # PID_MAX_LIMIT, linux/threads.h
MIN_SHARES, MAX_SHARES = 2, 262144  # of cgroup v1
_DISCARDED = "Your kernel does not support {} or the cgroup is not mounted. {} discarded."


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel can limit, beyond what `info` shows."""

    facts: HostFacts
    swappiness: bool
    reservation: bool
    blkio_weight: bool
    blkio_weight_device: bool
    blkio_throttle: bool
    cpus: str
    mems: str
    realtime: bool = False
    raises_limits: bool = True

    @classmethod
    def here(cls) -> Kernel:
        """Ask this machine."""
        facts, root = host_facts(), CGROUP_ROOT
        unified = facts.cgroup_version == "2"
        has_io = unified and "io" in read_line(root / "cgroup.controllers").split()
        return cls(
            facts=facts,
            swappiness=not unified and (root / "memory" / "memory.swappiness").exists(),
            reservation=facts.memory_limit,
            blkio_weight=_has_weight(root, unified=unified),
            blkio_weight_device=has_io or (root / "blkio" / "blkio.weight_device").exists(),
            blkio_throttle=has_io or (root / "blkio" / "blkio.throttle.read_bps_device").exists(),
            cpus=read_line("/sys/devices/system/cpu/online"),
            mems=read_line("/sys/devices/system/node/online") or "0",
            realtime=not unified and (root / "cpu" / "cpu.rt_runtime_us").exists(),
            raises_limits=may_raise_limits(),
        )


def _has_weight(root: Path, *, unified: bool) -> bool:
    """Whether anything shares a disk by weights: no weight is shown in the root itself."""
    if unified:
        controllers = read_line(root / "cgroup.controllers").split()
        cost = (root / "io.cost.qos").exists()
        return "io" in controllers and (cost or os.path.exists("/sys/module/bfq"))
    names = ("blkio.weight", "blkio.bfq.io_service_bytes")
    return any((root / "blkio" / name).exists() for name in names)


def verify(wanted: Resources, kernel: Kernel, *, update: bool = False) -> list[str]:
    """Check the limits, drop what the kernel cannot do, and return warnings.

    Raises InvalidArgument in Docker's words.
    """
    warnings: list[str] = []
    _verify_memory(wanted, kernel, warnings, update=update)
    _verify_cpu(wanted, kernel, warnings)
    _verify_cpuset(wanted, kernel, warnings)
    _verify_block_io(wanted, kernel, warnings)
    return warnings


def _verify_memory(r: Resources, kernel: Kernel, warnings: list[str], *, update: bool) -> None:
    if r.memory_swappiness == -1:
        r.memory_swappiness = None
    if r.memory != 0 and r.memory < MIN_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if r.memory > 0 and not kernel.facts.memory_limit:
        warnings.append(_DISCARDED.format("memory limit capabilities", "Limitation"))
        r.memory, r.memory_swap = 0, -1
    if r.memory > 0 and r.memory_swap != -1 and not kernel.facts.swap_limit:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        r.memory_swap = -1
    if 0 < r.memory_swap < r.memory:
        raise InvalidArgument(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if r.memory == 0 and r.memory_swap > 0 and not update:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if r.memory_swappiness is not None and not kernel.swappiness:
        warnings.append(_DISCARDED.format("memory swappiness capabilities", "Memory swappiness"))
        r.memory_swappiness = None
    if r.memory_swappiness is not None and not 0 <= r.memory_swappiness <= 100:
        raise InvalidArgument(
            f"Invalid value: {r.memory_swappiness}, valid memory swappiness range is 0-100"
        )
    if 0 < r.memory_reservation < MIN_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if 0 < r.memory < r.memory_reservation:
        raise InvalidArgument(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    _verify_kernel_memory(r, kernel, warnings)
    _verify_oom(r, kernel, warnings)


def _verify_kernel_memory(r: Resources, kernel: Kernel, warnings: list[str]) -> None:
    if r.kernel_memory:
        warnings.append(_DISCARDED.format("kernel memory limit capabilities", "Limitation"))
    r.kernel_memory = UNSET
    if r.kernel_memory_tcp and not kernel.facts.kernel_memory_tcp:
        what = "kernel memory TCP limit capabilities"
        warnings.append(_DISCARDED.format(what, "Limitation"))
        r.kernel_memory_tcp = UNSET


def _verify_oom(r: Resources, kernel: Kernel, warnings: list[str]) -> None:
    if r.oom_kill_disable is not None and not kernel.facts.oom_kill_disable:
        if r.oom_kill_disable:
            warnings.append(
                "Your kernel does not support OomKillDisable. OomKillDisable discarded."
            )
        r.oom_kill_disable = None
    if r.oom_kill_disable and r.memory == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    if r.pids_limit is not None and r.pids_limit > MAX_PIDS:
        raise InvalidArgument(
            f"invalid PIDs limit {r.pids_limit}: the kernel has {MAX_PIDS} processes at most"
        )
    if r.pids_limit is not None and not kernel.facts.pids_limit:
        if r.pids_limit > 0:
            warnings.append(_DISCARDED.format("PIDs limit capabilities", "PIDs limit"))
        r.pids_limit = None


def _verify_cpu(r: Resources, kernel: Kernel, warnings: list[str]) -> None:
    if r.nano_cpus > 0 and r.cpu_period > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if r.nano_cpus > 0 and r.cpu_quota > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if r.nano_cpus > 0 and not kernel.facts.cpu_quota:
        raise InvalidArgument(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler "
            "or the cgroup is not mounted"
        )
    count = os.cpu_count() or 1
    if r.nano_cpus and not MIN_NANO_CPUS <= r.nano_cpus <= count * 10**9:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    _verify_shares(r)
    _verify_realtime(r, kernel)
    if r.cpu_shares > 0 and not kernel.facts.cpu_shares:
        warnings.append(_DISCARDED.format("CPU shares", "Shares"))
        r.cpu_shares = 0
    if (r.cpu_period or r.cpu_quota) and not kernel.facts.cpu_quota:
        warnings.append(
            "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
        )
        r.cpu_period = r.cpu_quota = 0
    if r.cpu_period and not 1000 <= r.cpu_period <= 1_000_000:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < r.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if r.cpu_percent > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        r.cpu_percent = 0


def _verify_shares(r: Resources) -> None:
    if r.cpu_shares < 0:
        raise InvalidArgument(
            f"invalid CPU shares ({r.cpu_shares}): value must be a positive integer"
        )
    if r.cpu_shares and r.cpu_shares < MIN_SHARES:
        raise InvalidArgument(f"the minimum allowed cpu-shares is {MIN_SHARES}")
    if r.cpu_shares > MAX_SHARES:
        raise InvalidArgument(f"the maximum allowed cpu-shares is {MAX_SHARES}")


def _verify_realtime(r: Resources, kernel: Kernel) -> None:
    period, runtime = r.cpu_realtime_period, r.cpu_realtime_runtime
    if (period or runtime) and not kernel.realtime:
        raise InvalidArgument("kernel does not support CPU real-time scheduler")
    if period and runtime > period:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")


def _verify_cpuset(r: Resources, kernel: Kernel, warnings: list[str]) -> None:
    if (r.cpuset_cpus or r.cpuset_mems) and not kernel.facts.cpuset:
        warnings.append(_DISCARDED.format("cpuset", "Cpuset"))
        r.cpuset_cpus = r.cpuset_mems = ""
    for value, there, what, short in (
        (r.cpuset_cpus, kernel.cpus, "CPUs", "cpus"),
        (r.cpuset_mems, kernel.mems, "memory nodes", "mems"),
    ):
        try:
            wanted = parse_list(value)
        except ValueError as error:
            raise InvalidArgument(f"Invalid value {value} for cpuset {short}: {error}") from None
        if not wanted <= parse_list(there):
            raise InvalidArgument(
                f"Requested {what} are not available - requested {value}, available: {there}"
            )


def parse_list(text: str) -> set[int]:
    """Return the numbers of "0-2,7"; raises ValueError."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not all(
            each.isascii() and each.isdecimal() and len(each) < 6 for each in (first, last or "0")
        ):
            raise ValueError(f"invalid format: {text}")
        if dash and (not last or int(last) < int(first)):
            raise ValueError(f"invalid format: {text}")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _verify_block_io(r: Resources, kernel: Kernel, warnings: list[str]) -> None:
    if r.blkio_weight > 0 and not kernel.blkio_weight:
        warnings.append(_DISCARDED.format("Block I/O weight", "Weight"))
        r.blkio_weight = 0
    if r.blkio_weight and not 10 <= r.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    if r.io_maximum_bandwidth or r.io_maximum_iops:
        raise InvalidArgument(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"
        )
    if r.blkio_weight_device and not kernel.blkio_weight_device:
        warnings.append(_DISCARDED.format("Block I/O weight_device", "Weight-device"))
        r.blkio_weight_device = []
    for name, short, long in (
        ("blkio_device_read_bps", "BPS Block I/O read limit", "Block I/O BPS read limit"),
        ("blkio_device_write_bps", "BPS Block I/O write limit", "Block I/O BPS write limit"),
        ("blkio_device_read_iops", "IOPS Block read limit", "Block I/O IOPS read limit"),
        ("blkio_device_write_iops", "IOPS Block write limit", "Block I/O IOPS write limit"),
    ):
        if getattr(r, name) and not kernel.blkio_throttle:
            warnings.append(_DISCARDED.format(short, long))
            setattr(r, name, [])
