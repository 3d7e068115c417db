"""What `info` says of the machine: read from /proc and /sys, without privilege."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
CAP_SYS_RESOURCE = 1 << 24  # linux/capability.h
GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What this kernel can limit, and what it is."""

    cgroup_version: str
    memory_limit: bool
    swap_limit: bool
    oom_kill_disable: bool
    cpu_quota: bool
    cpu_shares: bool
    cpuset: bool
    pids_limit: bool
    ipv4_forwarding: bool
    apparmor: bool
    seccomp: bool
    cgroup_namespaces: bool
    kernel_memory_tcp: bool = False
    selinux: bool = False

    def warnings(self) -> list[str]:
        """Return Docker's sentences for what is missing."""
        missing = [
            (self.memory_limit, "No memory limit support"),
            (self.swap_limit, "No swap limit support"),
            (self.cpu_quota, "No cpu cfs quota support"),
            (self.cpu_shares, "No cpu shares support"),
            (self.cpuset, "No cpuset support"),
            (self.pids_limit, "No pids limit support"),
            (self.ipv4_forwarding, "IPv4 forwarding is disabled"),
        ]
        return [f"WARNING: {sentence}" for there, sentence in missing if not there]


def host_facts(root: Path = CGROUP_ROOT) -> HostFacts:
    """Return the facts of this machine; cheap enough to be asked each time."""
    unified = (root / "cgroup.controllers").exists()
    has = _unified_controllers(root) if unified else _separate_controllers(root)
    memory = root if unified else root / "memory"
    return HostFacts(
        cgroup_version="2" if unified else "1",
        memory_limit="memory" in has,
        swap_limit="memory" in has
        and (unified or (memory / "memory.memsw.limit_in_bytes").exists()),
        oom_kill_disable=not unified and (memory / "memory.oom_control").exists(),
        cpu_quota="cpu" in has and (unified or (root / "cpu" / "cpu.cfs_quota_us").exists()),
        cpu_shares="cpu" in has,
        cpuset="cpuset" in has,
        pids_limit="pids" in has,
        ipv4_forwarding=read_line("/proc/sys/net/ipv4/ip_forward") != "0",
        apparmor=read_line("/sys/module/apparmor/parameters/enabled") == "Y",
        seccomp=os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        cgroup_namespaces=os.path.exists("/proc/self/ns/cgroup"),
        kernel_memory_tcp=not unified and (memory / "memory.kmem.tcp.limit_in_bytes").exists(),
    )


def _unified_controllers(root: Path) -> set[str]:
    return set(read_line(root / "cgroup.controllers").split())


def _separate_controllers(root: Path) -> set[str]:
    found = {name for name in ("memory", "cpuset", "pids") if (root / name).is_dir()}
    if (root / "cpu").is_dir():
        found.add("cpu")
    return found


def read_line(path: str | Path) -> str:
    """Return the first line of a small file, "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def may_raise_limits() -> bool:
    """Whether containers get hard limits above ours: whether CAP_SYS_RESOURCE is there for them.

    The API daemon has given up all of its capabilities: it asks of the process that started it.
    """
    for process in ("self", os.getppid()):
        try:
            with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as file:
                held = next(line for line in file if line.startswith("CapPrm:"))
        except (OSError, StopIteration):
            continue
        if int(held.split()[1], 16) & CAP_SYS_RESOURCE:
            return True
    return False


def memory_total() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def operating_system() -> tuple[str, str]:
    """Return the name and the version of the distribution."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "Linux", ""
    return release.get("PRETTY_NAME", "Linux"), release.get("VERSION_ID", "")


def go_architecture() -> str:
    """Return the machine's architecture in Go's spelling."""
    machine = os.uname().machine
    return GO_ARCHITECTURES.get(machine, machine)
