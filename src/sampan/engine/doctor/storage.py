"""Judgements on the room for containers and their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sampan.engine.doctor.findings import Finding
from sampan.engine.doctor.probes import Probes

GIB: Final = 1 << 30
ENOUGH_DISK, LITTLE_DISK = 5 * GIB, 1 * GIB
ENOUGH_FILES: Final = 16_384
FILES_PER_CONTAINER: Final = 12  # pipes, pidfd, log, cgroup, sockets of ports


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
