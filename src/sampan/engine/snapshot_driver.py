"""What the engine knows of the storage driver: its images, and the size of new containers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sampan.engine.database import Database
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import HostConfig
from sampan.spec.sizes import parse_size
from sampan.storage.mounter import DriverInfo

# What Docker's drivers take that has no meaning here: none of it changes what a container sees.
_IGNORED: Final = ("overlay2.override_kernel_check", "overlay.override_kernel_check")
_FIRST_DRIVER: Final = "first-storage-driver"  # a fact in the engine's database


class SnapshotDriver:
    """The storage driver; `options` are the daemon's.

    Raises InvalidArgument for a default size that cannot be kept.
    Source: moby daemon/graphdriver/overlay2/overlay.go, btrfs/btrfs.go (parseOptions, and
    parseStorageOpt).
    """

    def __init__(self, info: DriverInfo, options: Sequence[str] = ()) -> None:
        self.info = info
        self._default, self._least = parse_options(options)
        if self._default and info.sizes_problem:
            raise InvalidArgument(
                f"error initializing graphdriver: Storage option {self.name}.size not supported:"
                f" {info.sizes_problem}"
            )

    @property
    def name(self) -> str:
        """The driver's name, as containers and images show it."""
        return self.info.name

    def limits_by_project(self, host_config: HostConfig) -> bool:
        """Tell whether a project limits a container, as `size` is kept by all drivers but btrfs."""
        wanted = self._default or (host_config.storage_opt or None)
        return bool(wanted) and not self.info.sizes_problem and self.name != "btrfs"

    def size(self, host_config: HostConfig) -> int | None:
        """Return how many bytes a container may write to its file system; None: no limit.

        Raises InvalidArgument for what no driver takes, and if this one cannot limit sizes here.
        """
        size = self._default
        for key, value in (host_config.storage_opt or {}).items():
            if key.lower() != "size":
                raise InvalidArgument(f"Unknown option {key}")
            size = _size(value)
        if not size:
            return None
        if self.info.sizes_problem:
            raise InvalidArgument(self.info.sizes_problem)
        if size < self._least:
            raise InvalidArgument(
                f"btrfs: storage size cannot be less than {self._least} bytes (btrfs.min_space)"
            )
        return size


def image_root(data_root: Path, driver: DriverInfo, database: Database) -> Path:
    """Return the folder of a driver's images, made if need be.

    Each driver has images of its own, as with Docker: their layers are its snapshots. Those of the
    driver that a data root began with are in the data root itself.
    """
    first = database.fact(_FIRST_DRIVER)
    if first is None:
        first = _first(driver)
        database.keep_fact(_FIRST_DRIVER, first)
    if driver.name == first:
        return data_root
    root = data_root / "images" / driver.name
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def _first(driver: DriverInfo) -> str:
    """Return whose the images are that a data root has had since before this was noted."""
    if not driver.kept or driver.kept == [driver.name]:
        return driver.name
    return "overlay" if "overlay" in driver.kept else driver.kept[0]


def parse_options(options: Sequence[str]) -> tuple[int | None, int]:
    """Return the default size and the least one of --storage-opt of the daemon.

    Raises InvalidArgument for what is no option of any driver.
    """
    default, least = None, 0
    for option in options:
        key, separator, value = option.partition("=")
        key = key.strip().lower()
        if not separator:
            raise InvalidArgument(f"Unable to parse storage-opt key/value: {option}")
        if key in ("size", "overlay2.size", "overlay.size", "btrfs.size", "vfs.size"):
            default = _size(value.strip()) or None
        elif key == "btrfs.min_space":
            least = _size(value.strip())
        elif key not in _IGNORED:
            raise InvalidArgument(f"unknown storage option: {key}")
    return default, least


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid size: '{text}'") from error
