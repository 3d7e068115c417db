"""What this host lacks for containers, what will not work because of it, and how to get it.

The judgements are pure functions of `Probes`; `doctor_probes` asks the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, Protocol

import msgspec

GIB: Final = 1 << 30
ENOUGH_DISK, LITTLE_DISK = 5 * GIB, 1 * GIB
ENOUGH_FILES: Final = 16_384
FILES_PER_CONTAINER: Final = 12  # pipes, pidfd, log, cgroup, sockets of ports

Severity = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    topic: str
    severity: Severity
    found: str
    effect: str = ""  # what does not work because of it
    remedy: str = ""  # how to get it


class Probes(Protocol):
    """What is asked of the host. A probe returns "" for success, else the reason of its failure."""

    def is_root(self) -> bool: ...
    def capabilities(self) -> frozenset[str]:
        """Names of the capabilities that this process may have."""

    def kernel(self) -> str:
        """Release, as `uname -r` prints it."""

    def read(self, path: str) -> str:
        """Content of a file, "" if it is not there."""

    def exists(self, path: str) -> bool: ...
    def namespace(self, kind: str) -> str: ...
    def system_call(self, name: str) -> str: ...
    def pidfd_info(self) -> str: ...
    def library(self, name: str) -> str: ...
    def overlay(self) -> str: ...
    def idmapped_mounts(self) -> str: ...
    def bridge(self) -> str: ...
    def veth(self) -> str: ...
    def nftables(self) -> str: ...
    def controllers(self) -> tuple[str, frozenset[str]]:
        """Layout ("v1", "v2", "hybrid", "none") of the cgroups, and the controllers there."""

    def file_system(self, path: str) -> str:
        """Type of the file system that a path is on."""

    def free_bytes(self, path: str) -> int: ...
    def open_files(self) -> int:
        """Hard limit of open files of one process."""


Check = Callable[[Probes], Finding]


def examine(probes: Probes, data_root: str) -> list[Finding]:
    """Return all findings, in the order in which they are shown."""
    found = [check(probes) for check in CHECKS]
    return [*found, storage(probes, data_root), disk(probes, data_root)]


# --- the judgements --------------------------------------------------------------------------


def privileges(probes: Probes) -> Finding:
    """The daemon starts as root, and drops it."""
    topic = "privileges"
    if not probes.is_root():
        return Finding(
            topic,
            "error",
            "this is not root",
            "sampand does not start; the findings below may be worse than the truth",
            "run it by sudo, or as a system service",
        )
    held = probes.capabilities()
    needed = {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_MKNOD"}
    if missing := sorted(needed - held):
        return Finding(
            topic,
            "error",
            f"root without {', '.join(missing)}",
            "containers cannot be made",
            "in a container of another engine: --privileged; in a unit: CapabilityBoundingSet=",
        )
    if "CAP_SYS_RESOURCE" not in held:
        return Finding(
            topic,
            "warning",
            "root without CAP_SYS_RESOURCE",
            "--ulimit cannot raise hard limits above ours, --oom-score-adj cannot be negative; "
            "containers get what is possible, with a warning",
            "give the service CAP_SYS_RESOURCE",
        )
    return Finding(topic, "ok", "root with all capabilities that are needed")


def kernel(probes: Probes) -> Finding:
    """Detached mounts and openat2 need Linux 5.6 and later."""
    needed = {"openat2": "5.6", "move_mount": "5.2", "fsopen": "5.2", "close_range": "5.9"}
    needed |= {"clone3": "5.3", "pidfd_open": "5.3", "mount_setattr": "5.12"}
    missing = [name for name in needed if probes.system_call(name)]
    release = probes.kernel()
    if missing:
        newest = max((needed[name] for name in missing), key=lambda it: int(it.split(".")[1]))
        return Finding(
            "kernel",
            "error",
            f"Linux {release} without {', '.join(missing)}",
            "containers cannot be started safely, so they are not started at all",
            f"a kernel of version {newest} or later; a seccomp profile around us may also be why",
        )
    if probes.pidfd_info():
        return Finding(
            "kernel",
            "note",
            f"Linux {release} keeps no exit status for pidfds",
            "an exit code is lost if both halves of the spawner were killed while a container ran",
            "Linux 6.15 or later",
        )
    return Finding("kernel", "ok", f"Linux {release}")


def namespaces(probes: Probes) -> Finding:
    """Six kinds are needed, three are used where they are."""
    missing = {
        kind: reason
        for kind in ("mount", "pid", "network", "ipc", "uts", "user", "cgroup", "time")
        if (reason := probes.namespace(kind))
    }
    if needed := [kind for kind in ("mount", "pid", "network", "ipc", "uts") if kind in missing]:
        return Finding(
            "namespaces",
            "error",
            "; ".join(f"{kind}: {missing[kind]}" for kind in needed),
            "containers cannot be made",
            "a kernel with CONFIG_NAMESPACES and its options; sysctl user.max_*_namespaces above 0",
        )
    if missing:
        return Finding(
            "namespaces",
            "note",
            "; ".join(f"{kind}: {reason}" for kind, reason in missing.items()),
            "containers share these with the host; --userns-remap and --cgroupns need them",
            "a newer kernel; for user: sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone",
        )
    return Finding("namespaces", "ok", "all eight kinds")


def cgroups(probes: Probes) -> Finding:
    """Limits need controllers."""
    layout, there = probes.controllers()
    wanted = {
        "memory": "--memory",
        "cpu": "--cpus, --cpu-shares",
        "cpuset": "--cpuset-cpus",
        "pids": "--pids-limit",
        "io": "--blkio-weight, --device-read-bps",
        "hugetlb": "limits of huge pages",
    }
    named = f"{layout}, with {', '.join(sorted(there)) or 'no controllers'}"
    if layout == "none":
        return Finding(
            "cgroups",
            "error",
            "no cgroups are mounted",
            "the daemon does not start, as no container could",
            "mount -t cgroup2 none /sys/fs/cgroup; where `ip netns exec` hides them: `nsenter "
            "--net=/run/netns/NAME` instead",
        )
    if missing := [name for name in wanted if name not in there]:
        severity: Severity = "warning" if {"memory", "cpu", "pids"} & set(missing) else "note"
        return Finding(
            "cgroups",
            severity,
            f"{named}; without {', '.join(missing)}",
            "refused or without effect: " + "; ".join(wanted[name] for name in missing),
            "kernel options cgroup_enable=memory swapaccount=1 and the like; for v2 the parent's "
            "cgroup.subtree_control",
        )
    if layout == "hybrid":
        return Finding(
            "cgroups",
            "note",
            named,
            "limits work by version 1; the freezer and kill files of version 2 are used beside it",
            "kernel option systemd.unified_cgroup_hierarchy=1",
        )
    return Finding("cgroups", "ok", named)


def seccomp(probes: Probes) -> Finding:
    """System call filters."""
    effect = "containers run without a filter of system calls, or only with --security-opt "
    if not probes.exists("/proc/sys/kernel/seccomp/actions_avail"):
        return Finding(
            "seccomp",
            "warning",
            "the kernel has no seccomp filters",
            effect + "seccomp=unconfined",
            "a kernel with CONFIG_SECCOMP_FILTER",
        )
    if reason := probes.library("libseccomp.so.2"):
        return Finding(
            "seccomp",
            "error",
            reason,
            effect + "seccomp=unconfined",
            "apt-get install libseccomp2",
        )
    return Finding("seccomp", "ok", "filters in the kernel, libseccomp here")


def mandatory_access(probes: Probes) -> Finding:
    """AppArmor or SELinux, whichever the kernel has."""
    topic = "AppArmor, SELinux"
    has_apparmor = probes.read("/sys/module/apparmor/parameters/enabled").strip() == "Y"
    if probes.exists("/sys/fs/selinux/enforce"):
        return Finding(topic, "ok", "SELinux is on")
    if not has_apparmor:
        return Finding(
            topic,
            "note",
            "neither is in this kernel",
            "--security-opt apparmor=… and label=… have no effect; the other defences remain",
            "a kernel of the distribution, started with security=apparmor",
        )
    if not probes.exists("/sys/kernel/security/apparmor/profiles"):
        return Finding(
            topic,
            "note",
            "AppArmor is on, and securityfs is not mounted here",
            "profiles cannot be loaded",
            "mount -t securityfs none /sys/kernel/security",
        )
    if not probes.exists("/usr/sbin/apparmor_parser"):
        return Finding(
            topic,
            "warning",
            "AppArmor is on, and its parser is not here",
            "containers run without the profile of the engine; the other defences remain",
            "apt-get install apparmor",
        )
    return Finding(topic, "ok", "AppArmor is on; containers get the profile sampan-default")


def id_mapped_mounts(probes: Probes) -> Finding:
    """What user namespaces shift the owners of files with."""
    if reason := probes.idmapped_mounts():
        return Finding(
            "id-mapped mounts",
            "note",
            reason,
            "containers with --userns=auto or --userns-remap, and binds with idmap, do not start",
            "Linux 5.19 or later, and a data root on ext4, xfs or btrfs",
        )
    return Finding("id-mapped mounts", "ok", "the kernel has them")


def links(probes: Probes) -> Finding:
    """Bridges and veth pairs."""
    if failures := [reason for reason in (probes.bridge(), probes.veth()) if reason]:
        return Finding(
            "bridge and veth",
            "warning",
            "; ".join(failures),
            "only --network host and none work",
            "modprobe bridge veth; or --bridge=none to do without",
        )
    return Finding("bridge and veth", "ok", "can be made")


def firewall(probes: Probes) -> Finding:
    """nftables, and what the old iptables would do behind its back."""
    if reason := probes.library("libnftables.so.1") or probes.nftables():
        return Finding(
            "firewall",
            "warning",
            reason,
            "containers on a bridge neither reach the outside nor can ports be published",
            "apt-get install libnftables1; a kernel with nf_tables, nft_nat, nft_masq, nft_fib",
        )
    if "filter" in probes.read("/proc/net/ip_tables_names").split():
        return Finding(
            "firewall",
            "note",
            "iptables of the old kind (legacy) filters here",
            "if its FORWARD chain drops, it drops packets of containers; we cannot see it",
            "iptables-legacy -I FORWARD -i sampan0 -j ACCEPT, the same with -o; or iptables-nft",
        )
    return Finding("firewall", "ok", "nftables")


def forwarding(probes: Probes) -> Finding:
    """ip_forward is switched on by us."""
    if probes.read("/proc/sys/net/ipv4/ip_forward").strip() != "1":
        return Finding(
            "forwarding",
            "note",
            "the host does not forward packets",
            "the daemon switches it on when it makes its bridge; interfaces that are there now "
            "still do not forward to one another",
            "sysctl -w net.ipv4.ip_forward=1",
        )
    return Finding("forwarding", "ok", "on")


def ipv6(probes: Probes) -> Finding:
    """Published ports on `::`."""
    if not probes.exists("/proc/net/if_inet6"):
        return Finding(
            "IPv6",
            "note",
            "the host has no IPv6",
            "ports are published on IPv4 addresses only",
            "kernel option ipv6.disable=0",
        )
    return Finding("IPv6", "ok", "the host has it")


def files(probes: Probes) -> Finding:
    """Descriptors of the spawner and the helpers."""
    limit = probes.open_files()
    if limit < ENOUGH_FILES:
        return Finding(
            "open files",
            "warning",
            f"at most {limit} open files for one process",
            f"about {limit // FILES_PER_CONTAINER} containers can run at once",
            "LimitNOFILE=1048576 in the unit, or ulimit -Hn before the start",
        )
    return Finding("open files", "ok", f"{limit} for one process")


def storage(probes: Probes, data_root: str) -> Finding:
    """Overlay, on a file system that can carry it."""
    effect = (
        "btrfs or fuse-overlayfs take its place where they work; else images are copied for each"
        " container (driver vfs): slow, and large"
    )
    if reason := probes.overlay():
        return Finding("storage", "warning", reason, effect, "modprobe overlay")
    kind = probes.file_system(data_root)
    if kind in ("overlay", "nfs", "nfs4", "vfat", "9p", "fuse", "ecryptfs", "aufs"):
        return Finding(
            "storage",
            "warning",
            f"{data_root} is on {kind}, which cannot carry overlay",
            effect,
            "--data-root on ext4, xfs or btrfs",
        )
    return Finding("storage", "ok", f"overlay on {kind or 'an unknown file system'}")


def storage_drivers(reasons: Mapping[str, str]) -> Finding:
    """What each driver says; `reasons` are why some do not work, "" for those that do."""
    working = [name for name, reason in reasons.items() if not reason]
    found = f"{', '.join(working)} work here" if working else "none works here"
    failing = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
    if not working:
        effect = "neither images nor containers can be made; " + "; ".join(failing)
        return Finding("storage drivers", "error", found, effect, "another --data-root")
    return Finding("storage drivers", "ok", "; ".join([found, *failing]))


def disk(probes: Probes, data_root: str) -> Finding:
    """Room for images."""
    free = probes.free_bytes(data_root)
    found = f"{free / GIB:.1f} GiB free for {data_root}"
    if free >= ENOUGH_DISK:
        return Finding("disk", "ok", found)
    return Finding(
        "disk",
        "error" if free < LITTLE_DISK else "warning",
        found,
        "images may not fit, and containers that write may find the disk full",
        "sampan system prune, or --data-root on a larger disk",
    )


CHECKS: Final[tuple[Check, ...]] = (
    privileges,
    kernel,
    namespaces,
    cgroups,
    seccomp,
    mandatory_access,
    id_mapped_mounts,
    links,
    firewall,
    forwarding,
    ipv6,
    files,
)


# --- showing ---------------------------------------------------------------------------------

_SIGNS: Final = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "error": "ERROR  "}


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings for people."""
    lines = []
    for finding in findings:
        lines.append(f"{_SIGNS[finding.severity]} {finding.topic}: {finding.found}")
        if finding.effect:
            lines.append(f"        because of it: {finding.effect}")
        if finding.remedy:
            lines.append(f"        to get it:     {finding.remedy}")
    worst = [finding for finding in findings if finding.severity in ("error", "warning")]
    lines.append("")
    if worst:
        lines.append(f"{len(worst)} of {len(findings)} findings need attention.")
    else:
        lines.append("This host has all that containers need.")
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[Finding]) -> bytes:
    """Return the findings for programs."""
    return msgspec.json.format(msgspec.json.encode([asdict(one) for one in findings])) + b"\n"


def warnings(findings: Sequence[Finding]) -> list[str]:
    """Return what `info` shows under Warnings."""
    return [
        f"WARNING: {finding.topic}: {finding.found}: {finding.effect}"
        for finding in findings
        if finding.severity in ("warning", "error")
    ]


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if something that is needed is missing."""
    return int(any(finding.severity == "error" for finding in findings))
