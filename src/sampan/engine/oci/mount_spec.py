"""From a container's mounts to those of the OCI specification."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Final

from sampan.engine.containers.container import Record
from sampan.engine.oci import mounts as oci_mounts
from sampan.engine.oci import tmpfs_options
from sampan.errors import InvalidArgument
from sampan.runtime import defaults
from sampan.spec.docker import config
from sampan.spec.docker.containers import MountPoint
from sampan.spec.runtime import Linux, Mount

ETC_FILES: Final = {
    "/etc/resolv.conf": "resolv.conf",
    "/etc/hostname": "hostname",
    "/etc/hosts": "hosts",
}
_KEPT_WRITABLE: Final = ("/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev")  # noqa: S108


def mounts(
    record: Record, linux: Linux, folder: Path, *, writable_cgroups: bool = False
) -> list[Mount]:
    """Return all mounts of a container, the defaults first; may set `linux.rootfs_propagation`.

    `folder` holds hosts, hostname and resolv.conf. Raises InvalidArgument in Docker's words.
    """
    host = record.host_config
    own = [*_etc_files(record, folder), *_ipc(record), *_points(record, linux)]
    for destination, options in (host.tmpfs or {}).items():
        merged = tmpfs_options.merged(options.split(","))
        own.append(_tmpfs(posixpath.normpath("/" + destination.lstrip("/")), merged))
    own.sort(key=lambda mount: mount.destination.rstrip("/").count("/"))
    taken = {mount.destination for mount in own}
    # None, or that of the other container: it comes with its IPC namespace.
    is_foreign = host.ipc_mode == "none" or host.ipc_mode.startswith("container:")
    found = [
        mount
        for mount in defaults.mounts(host.shm_size or defaults.SHM_BYTES)
        if mount.destination not in taken
        and not ("/dev" in taken and mount.destination.startswith("/dev/"))
        and not (is_foreign and mount.destination == "/dev/shm")  # noqa: S108
    ]
    for mount in found:
        is_sys = host.privileged and mount.destination == "/sys"
        if is_sys or (writable_cgroups and mount.type == "cgroup"):
            mount.options.remove("ro")
        elif host.readonly_rootfs and mount.destination not in _KEPT_WRITABLE:
            mount.options = [*mount.options, *([] if "ro" in mount.options else ["ro"])]
    return found + own


def _etc_files(record: Record, folder: Path) -> list[Mount]:
    read_only = ["ro"] if record.host_config.readonly_rootfs else []
    chosen = {point.destination for point in record.mounts}
    return [
        Mount(
            destination=destination,
            type="bind",
            source=str(folder / name),
            options=["rbind", "rprivate", *read_only],
        )
        for destination, name in ETC_FILES.items()
        if destination not in chosen
    ]


def _ipc(record: Record) -> list[Mount]:
    if record.host_config.ipc_mode != "host":
        return []
    shm = "/dev/shm"  # noqa: S108
    return [Mount(destination=shm, type="bind", source=shm, options=["rbind", "rprivate"])]


def _tmpfs(destination: str, options: list[str]) -> Mount:
    return Mount(destination=destination, type="tmpfs", source="tmpfs", options=options)


def _points(record: Record, linux: Linux) -> list[Mount]:
    found = []
    for point in record.mounts:
        spec = record.specs.get(point.destination, config.Mount(type=point.type))
        if point.type == "tmpfs":
            options = tmpfs_options.options_of(spec.tmpfs_options, writable=point.rw)
            found.append(_tmpfs(point.destination, options))
        else:
            late = point.destination in record.late_fills
            found.append(_bind(point, spec.bind_options, linux, fill=late))
    return found


def _bind(
    point: MountPoint, given: config.BindOptions | None, linux: Linux, *, fill: bool
) -> Mount:
    options = ["bind" if given and given.non_recursive else "rbind"]
    if fill:
        options.append("tmpcopyup")
    if not point.rw:
        options.append("ro" if given and given.read_only_non_recursive else "rro")
    propagation = point.propagation or oci_mounts.DEFAULT_PROPAGATION
    options.append(propagation)
    if propagation.endswith("shared"):
        _check_propagation(point.source, ("shared:",), "a shared mount")
        linux.rootfs_propagation = "shared"
    elif propagation.endswith("slave"):
        _check_propagation(point.source, ("shared:", "master:"), "a shared or slave mount")
        if linux.rootfs_propagation != "shared":
            linux.rootfs_propagation = "rslave"
    return Mount(destination=point.destination, type="bind", source=point.source, options=options)


def _check_propagation(source: str, wanted: tuple[str, ...], what: str) -> None:
    """Raise InvalidArgument unless the mount that holds `source` propagates."""
    real = os.path.realpath(source)
    best, tags = "", ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, _ = line.partition(" - ")
            words = fields.split(" ")
            place = words[4].rstrip("/")
            if len(place) >= len(best) and (real + "/").startswith(place + "/"):
                best, tags = place, " ".join(words[6:])
    if not any(tag.startswith(wanted) for tag in tags.split(" ")):
        raise InvalidArgument(f"path {source} is mounted on {best or '/'} but it is not {what}")


def make_sources(record: Record) -> list[str]:
    """Return the folders of the host that a start has to make if they are missing.

    Raises InvalidArgument in Docker's words for a source that is gone, and is not to be made.
    """
    found = []
    for point in record.mounts:
        spec = record.specs.get(point.destination)
        if point.type != "bind" or spec is None:
            continue
        if oci_mounts.makes_source(spec):
            found.append(point.source)
        else:
            try:
                oci_mounts.check_bind_source(spec)
            except InvalidArgument as error:
                raise InvalidArgument(f'invalid mount config for type "bind": {error}') from None
    return found
