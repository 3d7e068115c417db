"""What is mounted into a container: binds, `--mount`, volumes, tmpfs.

Source: moby daemon/volume/mounts/linux_parser.go, daemon/volumes.go.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec import UNSET

from sampan.engine.container import Record
from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.docker.config import BindOptions, Config, HostConfig, Mount, TmpfsOptions
from sampan.spec.docker.containers import MountPoint
from sampan.spec.names import new_id

PROPAGATIONS: Final = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
DEFAULT_PROPAGATION: Final = "rprivate"
_MODES: Final = (  # at most one of each
    {"ro", "rw"},
    {"z", "Z"},
    set(PROPAGATIONS),
    {"nocopy"},
    {"consistent", "cached", "delegated"},
)
_TMPFS_FLAGS: Final = {
    *("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async"),
    *("dirsync", "mand", "nomand", "atime", "noatime", "diratime", "nodiratime", "relatime"),
    *("norelatime", "strictatime", "nostrictatime", "defaults", "bind", "rbind"),
    *PROPAGATIONS,
}
_TMPFS_VALUES: Final = {"mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"}
NO_NAMED_VOLUMES: Final = (
    "named volumes are not available in this version: bind a folder of the host instead of {!r}"
)


@dataclass(slots=True, kw_only=True)
class Point:
    """One mount as the user wrote it."""

    kind: str  # bind, volume, tmpfs
    destination: str
    source: str = ""
    mode: str = ""
    writable: bool = True
    propagation: str = ""
    options: BindOptions | None = None
    tmpfs: TmpfsOptions | None = None
    make_source: bool = False  # a missing folder of the host is made
    copy_up: bool = False  # a volume without content gets the image's


# --- what the user wrote -----------------------------------------------------------------------


def parse(config: Config, host: HostConfig) -> list[Point]:
    """Return binds, mounts and volumes, in order; raises InvalidArgument or Unsupported."""
    points: dict[str, Point] = {}
    for spec in host.binds or ():
        point = parse_bind(spec)
        if point.destination in points:
            raise InvalidArgument(f"Duplicate mount point: {point.destination}")
        points[point.destination] = point
    for mount in host.mounts or ():
        point = parse_mount(mount)
        if point.destination in points:
            raise InvalidArgument(f"Duplicate mount point: {point.destination}")
        points[point.destination] = point
    for path in config.volumes or ():
        destination = _clean(path)
        if destination not in points:
            _check_target(destination, "volume")
            points[destination] = Point(kind="volume", destination=destination, copy_up=True)
    return list(points.values())


def parse_bind(spec: str) -> Point:
    """Return one item of `HostConfig.Binds`: source:target[:mode]; raises InvalidArgument."""
    parts = spec.split(":", 3)
    invalid = f"invalid volume specification: '{spec}'"
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and valid_mode(parts[1])):
        raise InvalidArgument(invalid)
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    if not valid_mode(mode):
        raise InvalidArgument(f"invalid mode: {mode}")
    words = mode.split(",")
    kind = "bind" if source.startswith("/") else "volume"
    try:
        _check_target(target, kind)
    except InvalidArgument as error:
        raise InvalidArgument(f"{invalid}: {error}") from None
    if kind == "volume" and source:
        raise Unsupported(NO_NAMED_VOLUMES.format(source))
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    return Point(
        kind=kind,
        destination=_clean(target),
        source=_clean(source) if source else "",
        mode=mode,
        writable="ro" not in words,
        propagation=propagation or (DEFAULT_PROPAGATION if kind == "bind" else ""),
        make_source=True,
        copy_up=kind == "volume" and "nocopy" not in words,
    )


def _clean(path: str) -> str:
    """Return an absolute path in its shortest spelling."""
    return posixpath.normpath("/" + path.lstrip("/"))  # normpath keeps two leading slashes


def valid_mode(mode: str) -> bool:
    """Tell whether the third part of a bind is one."""
    words = mode.split(",") if mode else []
    counts = [sum(word in choice for word in words) for choice in _MODES]
    return sum(counts) == len(words) and all(count <= 1 for count in counts)


def parse_mount(mount: Mount) -> Point:
    """Return one item of `HostConfig.Mounts`; raises InvalidArgument or Unsupported."""
    try:
        _check_exclusive(mount)
        if not mount.target:
            raise InvalidArgument("field Target must not be empty")
        _check_target(mount.target)
        return _POINTS[mount.type](mount)
    except KeyError:
        message = "mount type unknown"
    except InvalidArgument as error:
        message = str(error)
    raise InvalidArgument(f'invalid mount config for type "{mount.type}": {message}')


def _check_exclusive(mount: Mount) -> None:
    for kind, field in (
        ("bind", "BindOptions"),
        ("volume", "VolumeOptions"),
        ("image", "ImageOptions"),
        ("tmpfs", "TmpfsOptions"),
        ("cluster", "ClusterOptions"),
    ):
        name = field.replace("Options", "_options").lower()
        if mount.type != kind and getattr(mount, name) is not None:
            raise InvalidArgument(f"field {field} must not be specified")


def _check_target(path: str, kind: str = "") -> None:
    if not path.startswith("/"):
        message = f"invalid mount path: '{path}' mount path must be absolute"
    elif _clean(path) == "/":
        message = "invalid specification: destination can't be '/'"
    elif "\0" in path:
        message = "invalid mount path: it contains a zero byte"
    else:
        return
    raise InvalidArgument(f'invalid mount config for type "{kind}": {message}' if kind else message)


def _bind(mount: Mount) -> Point:
    if not mount.source:
        raise InvalidArgument("field Source must not be empty")
    options = mount.bind_options or BindOptions()
    if options.propagation and options.propagation not in PROPAGATIONS:
        raise InvalidArgument(f"invalid propagation mode: {options.propagation}")
    if not mount.source.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{mount.source}' mount path must be absolute")
    if options.read_only_non_recursive and options.read_only_force_recursive:
        raise InvalidArgument(
            "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive"
        )
    if not options.create_mountpoint and not _exists(mount.source):
        raise InvalidArgument(f"bind source path does not exist: {mount.source}")
    return Point(
        kind="bind",
        destination=_clean(mount.target),
        source=_clean(mount.source),
        writable=not mount.read_only,
        propagation=options.propagation or DEFAULT_PROPAGATION,
        options=options,
        make_source=options.create_mountpoint,
    )


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True  # we may not look; the runtime, which may, will say more
    return True


def _volume(mount: Mount) -> Point:
    if mount.source:
        raise Unsupported(NO_NAMED_VOLUMES.format(mount.source))
    if mount.volume_options and mount.volume_options.subpath:
        raise InvalidArgument("must not set Subpath when using anonymous volumes")
    return Point(
        kind="volume",
        destination=_clean(mount.target),
        writable=not mount.read_only,
        mode="z",
        copy_up=not (mount.volume_options and mount.volume_options.no_copy),
    )


def _tmpfs(mount: Mount) -> Point:
    if mount.source:
        raise InvalidArgument("field Source must not be specified")
    point = Point(
        kind="tmpfs",
        destination=_clean(mount.target),
        writable=not mount.read_only,
        tmpfs=mount.tmpfs_options or TmpfsOptions(),
    )
    tmpfs_options_of(point)
    return point


def _image(mount: Mount) -> Point:
    raise Unsupported("image mounts are not available in this version")


_POINTS: Final = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image}


# --- tmpfs -------------------------------------------------------------------------------------


def tmpfs_options_of(point: Point) -> list[str]:
    """Return the mount options of a tmpfs of `HostConfig.Mounts`."""
    options = point.tmpfs or TmpfsOptions()
    found = [] if point.writable else ["ro"]
    if options.mode:
        found.append(f"mode={options.mode:o}")
    if options.size_bytes:
        found.append(f"size={options.size_bytes}")
    for item in options.options or ():
        if not 1 <= len(item) <= 2:
            raise InvalidArgument("invalid option array length")
        if item[0] not in ("exec", "noexec"):
            raise InvalidArgument(f"invalid option: {item[0]}")
        found.append("=".join(item))
    return merged_tmpfs(found)


def merged_tmpfs(options: list[str]) -> list[str]:
    """Return the options of a tmpfs over Docker's defaults; raises InvalidArgument."""
    merged = ["noexec", "nosuid", "nodev"]
    for option in options:
        if not option:
            continue
        key, equals, _ = option.partition("=")
        if (key in _TMPFS_VALUES) if equals else (option in _TMPFS_FLAGS):
            opposite = option.removeprefix("no") if option.startswith("no") else f"no{option}"
            merged = [old for old in merged if old not in (opposite, option)]
            if option not in ("defaults", "bind", "rbind", "rw", "async"):
                merged.append(option)
        else:
            raise InvalidArgument(f'invalid tmpfs option ["{option}"]')
    return merged


def check_tmpfs(destination: str, options: str) -> None:
    """Check one item of `HostConfig.Tmpfs`; raises InvalidArgument."""
    _check_target(destination)
    merged_tmpfs(options.split(","))


# --- what the container gets -------------------------------------------------------------------


def mount_points(
    id: str,
    config: Config,
    host: HostConfig,
    data_root: Path,
    volumes_from: Callable[[str], list[MountPoint]] | None = None,
) -> list[MountPoint]:
    """Return `Mounts` of a new container; anonymous volumes get a name and a folder.

    `volumes_from` returns the mounts of another container. The folders are made at the start.
    """
    found: dict[str, MountPoint] = {}
    for item in host.volumes_from or ():
        if volumes_from is None:
            raise Unsupported("volumes of other containers are not available here")
        for point in _taken(item, volumes_from):
            found[point.destination] = point
    for wanted in parse(config, host):
        found[wanted.destination] = _settled(id, wanted, data_root)
    return list(found.values())


def _taken(item: str, volumes_from: Callable[[str], list[MountPoint]]) -> list[MountPoint]:
    name, _, mode = item.partition(":")
    if not name:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    if not valid_mode(mode) or set(mode.split(",")) & {*PROPAGATIONS, "nocopy"}:
        raise InvalidArgument(f"invalid mode: {mode}")
    read_only = "ro" in mode.split(",")
    return [
        MountPoint(
            type=each.type,
            name=each.name,
            source=each.source,
            destination=each.destination,
            driver=each.driver,
            mode=mode,
            rw=each.rw and not read_only,
            propagation=each.propagation,
        )
        for each in volumes_from(name)
    ]


def _settled(id: str, point: Point, data_root: Path) -> MountPoint:
    name = new_id() if point.kind == "volume" else ""
    source = point.source
    if name:
        source = str(data_root / "containers" / id / "volumes" / name / "_data")
    return MountPoint(
        type=point.kind,
        name=name or UNSET,
        source=source,
        destination=point.destination,
        driver="local" if name else UNSET,
        mode=point.mode,
        rw=point.writable,
        propagation=point.propagation,
    )


def missing_sources(record: Record) -> list[str]:
    """Return the folders of the host that a start has to make if they are missing."""
    made = {
        point.destination
        for point in parse_again(record)
        if point.make_source or point.kind == "volume"
    }
    return [
        point.source
        for point in record.mounts
        if point.source and (point.destination in made or point.type == "volume")
    ]


def parse_again(record: Record) -> list[Point]:
    """Return the points of a container that was accepted before."""
    try:
        return parse(record.config, record.host_config)
    except InvalidArgument as error:
        # A source of `--mount` that is gone since: Docker refuses the start in these words.
        raise InvalidArgument(str(error)) from error
