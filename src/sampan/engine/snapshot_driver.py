"""What the engine knows of the storage driver: its name, and the size of new containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sampan.engine.blocking import blocking
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import HostConfig
from sampan.spec.sizes import parse_size
from sampan.storage.mounter import DriverInfo, Mounter

# What Docker's drivers take that has no meaning here: none of it changes what a container sees.
_IGNORED: Final = ("overlay2.override_kernel_check", "overlay.override_kernel_check")


class SnapshotDriver:
    """The storage driver, known when the engine has started; `options` are the daemon's.

    Source: moby daemon/graphdriver/overlay2/overlay.go, btrfs/btrfs.go (parseOptions, and
    parseStorageOpt).
    """

    def __init__(self, mounter: Mounter, options: Sequence[str] = ()) -> None:
        self._mounter = mounter
        self._default, self._least = _parsed(options)
        self.info = DriverInfo(name="")

    @property
    def name(self) -> str:
        """The driver's name, as containers and images show it."""
        return self.info.name

    async def learn(self) -> None:
        """Ask the mounter; raises InvalidArgument for a default size that cannot be kept."""
        self.info = await blocking(self._mounter.driver)
        if self._default and self.info.sizes_problem:
            raise InvalidArgument(
                f"error initializing graphdriver: Storage option {self.name}.size not supported:"
                f" {self.info.sizes_problem}"
            )

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


def _parsed(options: Sequence[str]) -> tuple[int | None, int]:
    """Return the default size and the least one of --storage-opt of the daemon."""
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
