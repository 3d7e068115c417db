"""Judgements on what processes are confined with: namespaces, cgroups, filters."""

from __future__ import annotations

from sampan.engine.doctor.findings import Finding, Severity
from sampan.engine.doctor.probes import Probes


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
    missing = [name for name, reason in probes.system_calls(list(needed)).items() if reason]
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
    kinds = ("mount", "pid", "network", "ipc", "uts", "cgroup", "time", "user")
    missing = {kind: reason for kind, reason in probes.namespaces(kinds).items() if reason}
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
