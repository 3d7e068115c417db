"""Limits: what users may ask for, what this kernel can do, and how the runtime is told.

Source: moby daemon/daemon_unix.go verifyPlatformContainerResources, getCPUResources and others.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sampan.engine.host import CGROUP_ROOT, HostFacts, host_facts, read_line
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import DeviceMapping, Resources, ThrottleDevice
from sampan.spec.runtime import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxDevice,
    LinuxDeviceCgroup,
    LinuxMemory,
    LinuxPids,
    LinuxResources,
    LinuxThrottleDevice,
    LinuxWeightDevice,
)

MIN_MEMORY = 6 << 20
PERIOD = 100_000  # microseconds
DEVICES_AT_MOST = 4096
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

    @classmethod
    def here(cls) -> Kernel:
        """Ask this machine."""
        facts, root = host_facts(), CGROUP_ROOT
        unified = facts.cgroup_version == "2"
        has_io = unified and "io" in read_line(root / "cgroup.controllers").split()
        weight = (root / "blkio" / "blkio.weight").exists() or (
            root / "blkio" / "blkio.bfq.weight"
        ).exists()
        return cls(
            facts=facts,
            swappiness=not unified and (root / "memory" / "memory.swappiness").exists(),
            reservation=facts.memory_limit,
            blkio_weight=has_io or weight,
            blkio_weight_device=has_io or (root / "blkio" / "blkio.weight_device").exists(),
            blkio_throttle=has_io or (root / "blkio" / "blkio.throttle.read_bps_device").exists(),
            cpus=read_line("/sys/devices/system/cpu/online"),
            mems=read_line("/sys/devices/system/node/online") or "0",
        )


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
    _verify_oom(r, kernel, warnings)


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
    if r.nano_cpus < 0 or r.nano_cpus > count * 10**9:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    if r.cpu_shares < 0:
        raise InvalidArgument(
            f"invalid CPU shares ({r.cpu_shares}): value must be a positive integer"
        )
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


# --- for the runtime ---------------------------------------------------------------------------


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


# --- devices -----------------------------------------------------------------------------------


def devices(
    mappings: Sequence[DeviceMapping],
) -> tuple[list[LinuxDevice], list[LinuxDeviceCgroup]]:
    """Return the nodes to make for `--device`, and the rules that allow them.

    A folder stands for all devices in it. Raises InvalidArgument in Docker's words.
    """
    nodes: list[LinuxDevice] = []
    rules: list[LinuxDeviceCgroup] = []
    for mapping in mappings:
        inside = mapping.path_in_container or mapping.path_on_host
        access = mapping.cgroup_permissions or "rwm"
        if set(access) - set("rwm"):
            raise InvalidArgument(f"invalid device mode: {access}")
        found = _devices_at(mapping.path_on_host, inside)
        nodes += found
        rules += [_rule(node, access) for node in found]
    return nodes, rules


def _rule(node: LinuxDevice, access: str) -> LinuxDeviceCgroup:
    return LinuxDeviceCgroup(
        allow=True, type=node.type, major=node.major, minor=node.minor, access=access
    )


def _devices_at(path: str, inside: str) -> list[LinuxDevice]:
    failed = f'error gathering device information while adding custom device "{path}": '
    try:
        real = os.path.realpath(path)
        if node := _node(real, inside):
            return [node]
        if os.path.isdir(real):
            found = list_devices(real, inside)
            if found:
                return found
    except (OSError, ValueError) as error:
        reason = os.strerror(getattr(error, "errno", 0) or 22).lower()
        raise InvalidArgument(f"{failed}{reason}") from None
    raise InvalidArgument(failed + "not a device node")


def list_devices(
    folder: str, inside: str, skip: Callable[[str], bool] | None = None
) -> list[LinuxDevice]:
    """Return every device node below a folder of the host, by its path `inside`."""
    found: list[LinuxDevice] = []
    for where, folders, files in os.walk(folder):
        if skip:
            folders[:] = [name for name in folders if not skip(name)]
        for name in sorted(files):
            path = os.path.join(where, name)
            try:
                node = _node(path, inside + path[len(folder) :])
            except OSError:
                continue  # it went meanwhile
            if node and len(found) < DEVICES_AT_MOST:
                found.append(node)
    return found


def host_devices() -> list[LinuxDevice]:
    """Return the devices of a privileged container: all of the host's but for terminals."""
    skipped = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
    found = list_devices("/dev", "/dev", skipped.__contains__)
    return [node for node in found if node.path != "/dev/console"]


def _node(path: str, inside: str) -> LinuxDevice | None:
    status = os.lstat(path)
    if stat.S_ISBLK(status.st_mode):
        kind = "b"
    elif stat.S_ISCHR(status.st_mode):
        kind = "c"
    else:
        return None
    return LinuxDevice(
        path=inside,
        type=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        file_mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )


def parse_rules(rules: Sequence[str]) -> list[LinuxDeviceCgroup]:
    """Return the rules of `--device-cgroup-rule`; raises InvalidArgument in Docker's words."""
    found = []
    for rule in rules:
        parts = rule.split(" ")
        numbers = parts[1].split(":") if len(parts) == 3 else []
        good = (
            len(numbers) == 2
            and parts[0] in ("a", "b", "c")
            and all(n == "*" or (n.isascii() and n.isdecimal() and len(n) < 10) for n in numbers)
            and 1 <= len(parts[2]) <= 3
            and not set(parts[2]) - set("rwm")
        )
        if not good:
            raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'")
        major, minor = (None if n == "*" else int(n) for n in numbers)
        found.append(
            LinuxDeviceCgroup(allow=True, type=parts[0], major=major, minor=minor, access=parts[2])
        )
    return found
