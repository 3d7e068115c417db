"""What users want mounted into a container: binds, `--mount`, volumes, tmpfs, images.

Source: moby daemon/volume/mounts/linux_parser.go, validate.go, daemon/volumes.go.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from typing import Final

from sampan.engine.oci import tmpfs_options
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import (
    BindOptions,
    Config,
    DriverConfig,
    HostConfig,
    ImageOptions,
    Mount,
    VolumeOptions,
)
from sampan.spec.ownership import split_ownership

PROPAGATIONS: Final = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
DEFAULT_PROPAGATION: Final = "rprivate"
_MODES: Final = (  # at most one of each
    {"ro", "rw"},
    {"z", "Z"},
    set(PROPAGATIONS),
    {"nocopy"},
    {"consistent", "cached", "delegated"},
)


@dataclass(slots=True, kw_only=True)
class Point:
    """One mount as the user wrote it; `spec` says all of it in the words of `--mount`."""

    kind: str  # bind, volume, tmpfs, image
    destination: str
    source: str = ""  # of binds: a path; of images: a reference
    name: str = ""  # of a volume; "" for one without a name
    mode: str = ""
    writable: bool = True
    propagation: str = ""
    spec: Mount = field(default_factory=Mount)
    from_config: bool = False  # a volume of `Config.Volumes`: it gives way to all others

    @property
    def copy_up(self) -> bool:
        """Tell whether an empty volume gets what the image has at its place."""
        options = self.spec.volume_options
        return self.kind == "volume" and not (options and options.no_copy)

    @property
    def make_source(self) -> bool:
        """Tell whether a missing folder of the host is made."""
        return makes_source(self.spec)


def makes_source(spec: Mount) -> bool:
    """Tell whether a bind makes the folder of the host that it starts from."""
    options = spec.bind_options
    return spec.type == "bind" and bool(options and options.create_mountpoint)


# --- what the user wrote -----------------------------------------------------------------------


def parse(config: Config, host: HostConfig) -> list[Point]:
    """Return binds, mounts and volumes, in order; raises InvalidArgument."""
    points: dict[str, Point] = {}
    tmpfs = {_clean(path) for path in host.tmpfs or ()}
    written = [parse_bind(spec, host.volume_driver) for spec in host.binds or ()]
    written += [parse_mount(mount) for mount in host.mounts or ()]
    for point in written:
        if point.destination in points or point.destination in tmpfs:
            raise InvalidArgument(f"Duplicate mount point: {point.destination}")
        points[point.destination] = point
    for path in config.volumes or ():
        destination = _clean(path)
        if destination not in points and destination not in tmpfs:
            _check_target(path, "volume")
            points[destination] = _anonymous(destination, host.volume_driver)
    return list(points.values())


def _anonymous(destination: str, driver: str) -> Point:
    options = VolumeOptions(driver_config=DriverConfig(name=driver)) if driver else None
    spec = Mount(type="volume", target=destination, volume_options=options)
    return Point(kind="volume", destination=destination, spec=spec, from_config=True)


def parse_bind(spec: str, volume_driver: str = "") -> Point:
    """Return one item of `HostConfig.Binds`: source:target[:mode]; raises InvalidArgument."""
    parts = spec.split(":", 3)
    invalid = f"invalid volume specification: '{spec}'"
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and valid_mode(parts[1])):
        raise InvalidArgument(invalid)
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    if not valid_mode(mode):
        raise InvalidArgument(f"invalid mode: {mode}")
    try:
        mount = _written(source, target, mode.split(","), volume_driver)
        if not mount.target:
            raise InvalidArgument("field Target must not be empty")
        _check_target(mount.target)
        point = _POINTS[mount.type](mount)
    except InvalidArgument as error:
        kind = "bind" if source.startswith("/") else "volume"
        reason = f'invalid mount config for type "{kind}": {error}'
        raise InvalidArgument(f"{invalid}: {reason}") from None
    point.mode = mode
    return point


def _written(source: str, target: str, words: list[str], volume_driver: str) -> Mount:
    """Return what `-v` means in the words of `--mount`."""
    mount = Mount(source=source, target=target, read_only="ro" in words)
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    if source.startswith("/"):
        mount.type = "bind"
        mount.bind_options = BindOptions(propagation=propagation, create_mountpoint=True)
        return mount
    if propagation:
        raise InvalidArgument("field BindOptions must not be specified")
    mount.type = "volume"
    if volume_driver or "nocopy" in words:
        mount.volume_options = VolumeOptions(no_copy="nocopy" in words)
        if volume_driver:
            mount.volume_options.driver_config = DriverConfig(name=volume_driver)
    return mount


def _clean(path: str) -> str:
    """Return an absolute path in its shortest spelling."""
    return posixpath.normpath("/" + path.lstrip("/"))  # normpath keeps two leading slashes


def valid_mode(mode: str) -> bool:
    """Tell whether the third part of a bind is one."""
    words, _ = split_ownership(mode)
    counts = [sum(word in choice for word in words) for choice in _MODES]
    return sum(counts) == len(words) and all(count <= 1 for count in counts)


def parse_mount(mount: Mount) -> Point:
    """Return one item of `HostConfig.Mounts`; raises InvalidArgument."""
    try:
        _check_exclusive(mount)
        if not mount.target:
            raise InvalidArgument("field Target must not be empty")
        _check_target(mount.target)
        if "\0" in mount.source:
            raise InvalidArgument("field Source contains a zero byte")
        point = _POINTS[mount.type](mount)
        if mount.type == "bind":
            check_bind_source(mount)
        return point
    except KeyError:
        message = "mount type unknown"
    except InvalidArgument as error:
        message = str(error)
    raise InvalidArgument(f'invalid mount config for type "{mount.type}": {message}')


def _check_exclusive(mount: Mount) -> None:
    for kind, field_name in (
        ("bind", "BindOptions"),
        ("volume", "VolumeOptions"),
        ("image", "ImageOptions"),
        ("tmpfs", "TmpfsOptions"),
        ("cluster", "ClusterOptions"),
    ):
        name = field_name.replace("Options", "_options").lower()
        if mount.type != kind and getattr(mount, name) is not None:
            raise InvalidArgument(f"field {field_name} must not be specified")


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


def check_tmpfs(destination: str, options: str) -> None:
    """Check one item of `HostConfig.Tmpfs`; raises InvalidArgument."""
    _check_target(destination)
    tmpfs_options.merged(options.split(","))


# --- each kind ---------------------------------------------------------------------------------


def _bind(mount: Mount) -> Point:
    if not mount.source:
        raise InvalidArgument("field Source must not be empty")
    options = mount.bind_options or BindOptions()
    if options.propagation and options.propagation not in PROPAGATIONS:
        raise InvalidArgument(f"invalid propagation mode: {options.propagation}")
    if not mount.source.startswith("/") or "\0" in mount.source:
        raise InvalidArgument(f"invalid mount path: '{mount.source}' mount path must be absolute")
    if options.read_only_non_recursive and options.read_only_force_recursive:
        raise InvalidArgument(
            "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive"
        )
    return Point(
        kind="bind",
        destination=_clean(mount.target),
        source=_clean(mount.source),
        writable=not mount.read_only,
        propagation=options.propagation or DEFAULT_PROPAGATION,
        spec=mount,
    )


def check_bind_source(mount: Mount) -> None:
    """Raise InvalidArgument for a source that is not there, unless it would be made."""
    if not makes_source(mount) and not _exists(mount.source):
        raise InvalidArgument(f"bind source path does not exist: {mount.source}")


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True  # we may not look; the runtime, which may, will say more
    return True


def _volume(mount: Mount) -> Point:
    options = mount.volume_options or VolumeOptions()
    if options.subpath and not mount.source:
        raise InvalidArgument("must not set Subpath when using anonymous volumes")
    _check_subpath(options.subpath)
    return Point(
        kind="volume",
        destination=_clean(mount.target),
        name=mount.source,
        writable=not mount.read_only,
        spec=mount,
    )


def _tmpfs(mount: Mount) -> Point:
    if mount.source:
        raise InvalidArgument("field Source must not be specified")
    tmpfs_options.options_of(mount.tmpfs_options, writable=not mount.read_only)
    return Point(
        kind="tmpfs",
        destination=_clean(mount.target),
        writable=not mount.read_only,
        spec=mount,
    )


def _image(mount: Mount) -> Point:
    if not mount.source:
        raise InvalidArgument("field Source must not be empty")
    _check_subpath((mount.image_options or ImageOptions()).subpath)
    return Point(
        kind="image",
        destination=_clean(mount.target),
        source=mount.source,
        writable=False,
        propagation=DEFAULT_PROPAGATION,
        spec=mount,
    )


def _check_subpath(path: str) -> None:
    """Raise InvalidArgument unless a path stays where it starts, as it is written."""
    if not path:
        return
    depth = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            break
    if depth < 0 or path.startswith("/") or "\0" in path:
        raise InvalidArgument("subpath must be a relative path within the volume")


_POINTS: Final = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image}


# --- the mounts of other containers ------------------------------------------------------------


def parse_volumes_from(item: str) -> tuple[str, str]:
    """Return container and mode of one item of `HostConfig.VolumesFrom`; InvalidArgument."""
    name, _, mode = item.partition(":")
    if not item:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    words = set(mode.split(",")) if mode else set()
    if not valid_mode(mode) or words & {*PROPAGATIONS, "nocopy"}:
        raise InvalidArgument(f"invalid mode: {mode}")
    return name, mode
