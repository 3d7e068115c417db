"""What a container gets unless it asks otherwise: Docker's values, as OCI structs.

Every function returns fresh lists, so callers may change them. Source: moby daemon/pkg/oci
defaults.go, caps/defaults.go; opencontainers/runc specconv AllowedDevices.
"""

from __future__ import annotations

import os
from typing import Final

from sampan.spec.runtime import (
    Linux,
    LinuxCapabilities,
    LinuxDevice,
    LinuxDeviceCgroup,
    LinuxNamespace,
    LinuxResources,
    Mount,
    Process,
    Rlimit,
    Root,
    Spec,
)

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",  # GHSA-6fw5-f8r9-fgfm
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",  # GHSA-jq35-85cj-fj4p
    "/sys/firmware",
)

READONLY_PATHS: Final = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

SHM_BYTES: Final = 64 << 20

#: Path and numbers of the devices that every container has.
_DEVICES: Final = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)


def masked_paths() -> list[str]:
    """Return the paths to hide, with the thermal counters of this host's processors."""
    paths = list(_MASKED)
    processors = "/sys/devices/system/cpu"
    try:
        names = [name for name in os.listdir(processors) if name[3:].isdigit()]
    except OSError:
        return paths
    for name in sorted(names, key=lambda each: int(each[3:])):
        path = f"{processors}/{name}/thermal_throttle"  # GHSA-6fw5-f8r9-fgfm
        if name.startswith("cpu") and os.path.exists(path):
            paths.append(path)
    return paths


def capabilities(names: tuple[str, ...] | list[str] = CAPABILITIES) -> LinuxCapabilities:
    """Return bounding, permitted and effective set; nothing is inherited (CVE-2022-24769)."""
    return LinuxCapabilities(bounding=list(names), permitted=list(names), effective=list(names))


def mounts(shm_bytes: int = SHM_BYTES, *, readonly_cgroup: bool = True) -> list[Mount]:
    """Return the mounts that every container has, in order."""
    restricted = ["nosuid", "noexec", "nodev"]
    access = ["ro"] if readonly_cgroup else ["rw"]
    tty = ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    dev = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    return [
        _mount("/proc", "proc", restricted),
        _mount("/dev", "tmpfs", dev),
        _mount("/dev/pts", "devpts", ["nosuid", "noexec", *tty]),
        _mount("/sys", "sysfs", [*restricted, "ro"]),
        _mount("/sys/fs/cgroup", "cgroup", [*access, *restricted]),
        _mount("/dev/mqueue", "mqueue", restricted),
        _mount("/dev/shm", "tmpfs", [*restricted, "mode=1777", f"size={shm_bytes}"], "shm"),  # noqa: S108
    ]


def _mount(destination: str, kind: str, options: list[str], source: str = "") -> Mount:
    return Mount(destination=destination, type=kind, source=source or kind, options=list(options))


def devices() -> list[LinuxDevice]:
    """Return the nodes that the specification demands; /dev/console and ptmx are made apart."""
    return [
        LinuxDevice(path=path, type="c", major=major, minor=minor, file_mode=0o666, uid=0, gid=0)
        for path, major, minor in _DEVICES
    ]


def device_rules() -> list[LinuxDeviceCgroup]:
    """Return what a container of the engine may do with devices: Docker's list, then the runtime's.

    Rules for the user's own devices are appended to it.
    """
    allowed = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)]
    return [
        LinuxDeviceCgroup(allow=False, access="rwm"),
        *(_rule(major, minor) for major, minor in allowed),
        LinuxDeviceCgroup(allow=False, type="c", major=10, minor=229, access="rwm"),  # fuse
        *runtime_device_rules(),
    ]


def runtime_device_rules() -> list[LinuxDeviceCgroup]:
    """Return what the runtime allows at the end of every list: the nodes that it makes itself.

    `sampan-runtime` appends these to the list of any specification, as runc does.
    To make a node is always allowed; to open it is what the list decides.
    """
    return [
        LinuxDeviceCgroup(allow=True, type="c", access="m"),
        LinuxDeviceCgroup(allow=True, type="b", access="m"),
        *(_rule(major, minor) for _, major, minor in _DEVICES),
        _rule(136, None),  # /dev/pts/*
        _rule(5, 2),  # /dev/ptmx
        _rule(10, 200),  # /dev/net/tun: many VPN images count on it
    ]


def _rule(major: int, minor: int | None) -> LinuxDeviceCgroup:
    return LinuxDeviceCgroup(allow=True, type="c", major=major, minor=minor, access="rwm")


def all_devices() -> list[LinuxDeviceCgroup]:
    """Return the list of a privileged container."""
    return [LinuxDeviceCgroup(allow=True, type="a", access="rwm")]


def namespaces(*, cgroup: bool = False) -> list[LinuxNamespace]:
    """Return the new namespaces of a container; the cgroup namespace is a choice."""
    result = [
        LinuxNamespace(type="mount"),
        LinuxNamespace(type="network"),
        LinuxNamespace(type="uts"),
        LinuxNamespace(type="pid"),
        LinuxNamespace(type="ipc"),
    ]
    return [*result, LinuxNamespace(type="cgroup")] if cgroup else result


def spec() -> Spec:
    """Return the config.json that `sampan-runtime spec` writes: a shell, as runc's template."""
    few = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
    return Spec(
        process=Process(
            terminal=True,
            args=["sh"],
            env=[f"PATH={PATH}", "TERM=xterm"],
            cwd="/",
            capabilities=capabilities(few),
            rlimits=[Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=1024)],
            no_new_privileges=True,
        ),
        root=Root(path="rootfs", readonly=True),
        hostname="sampan",
        mounts=mounts(),
        linux=Linux(
            resources=LinuxResources(devices=[LinuxDeviceCgroup(allow=False, access="rwm")]),
            namespaces=namespaces(cgroup=True),
            masked_paths=masked_paths(),
            readonly_paths=list(READONLY_PATHS),
        ),
    )
