"""Which storage driver is used: the one that was asked for, that is in use, or the best."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.errors import Unsupported
from sampan.storage.driver_names import named
from sampan.storage.drivers.btrfs import BtrfsDriver
from sampan.storage.drivers.driver import SnapshotDriver
from sampan.storage.drivers.fuse_overlayfs import FuseOverlayfsDriver
from sampan.storage.drivers.overlay import OverlayDriver
from sampan.storage.drivers.vfs import VfsDriver

log = logging.getLogger(__name__)

#: In the order of `driver_names.NAMES`, the best first.
DRIVERS: Final[dict[str, Callable[[Path], SnapshotDriver]]] = {
    "overlay": OverlayDriver,
    "btrfs": BtrfsDriver,
    "fuse-overlayfs": FuseOverlayfsDriver,
    "vfs": VfsDriver,
}
_IN_USE: Final = "in-use"  # in the folder of all drivers: the one that was used last


def open_driver(data_root: Path, wanted: str) -> SnapshotDriver:
    """Return the driver `wanted`, or, if that is empty, the one in use here or the best.

    Raises Unsupported for one that is unknown or does not work here, in Docker's form.
    """
    snapshots = data_root / "snapshots"
    try:
        if wanted:
            driver = _opened(snapshots, named(wanted))
        elif prior := in_use(snapshots):
            driver = _opened(snapshots, prior)
        else:
            driver = _best(snapshots)
    except Unsupported as error:
        raise Unsupported(f"error initializing graphdriver: {error}") from error
    _note(snapshots, driver.name)
    return driver


def _opened(snapshots: Path, name: str) -> SnapshotDriver:
    folder = snapshots / name
    folder.mkdir(parents=True, exist_ok=True)
    return DRIVERS[name](folder)


def _best(snapshots: Path) -> SnapshotDriver:
    reasons = {}
    for name in DRIVERS:
        try:
            driver = _opened(snapshots, name)
        except Unsupported as error:
            reasons[name] = str(error)
            with suppress(OSError):
                (snapshots / name).rmdir()
            continue
        if name == "vfs":
            for other, reason in reasons.items():
                log.warning("no %s: %s", other, reason)
            log.warning("the vfs driver copies an image whole for each container")
        return driver
    raise AssertionError("vfs works everywhere")


def in_use(snapshots: Path) -> str:
    """Return the driver that keeps snapshots here; "" if none does. The one used last wins."""
    names = holding(snapshots)
    with suppress(OSError):
        last = (snapshots / _IN_USE).read_text("ascii").strip()
        if last in names:
            return last
    return names[0] if names else ""


def holding(snapshots: Path) -> list[str]:
    """Return the drivers that have snapshots here."""
    return [name for name in DRIVERS if _holds(snapshots / name)]


def _holds(folder: Path) -> int:
    """Return how many snapshots are in the folder of a driver."""
    with suppress(OSError):
        return sum(not name.startswith(".") for name in os.listdir(folder))
    return 0


def _note(snapshots: Path, name: str) -> None:
    for other in DRIVERS:
        if other != name and (count := _holds(snapshots / other)):
            log.warning(
                "%d layers and containers of the storage driver %s are kept in this data root, but"
                " not used by %s; --storage-driver=%s shows them again",
                *(count, other, name, other),
            )
    path = snapshots / _IN_USE
    temporary = path.with_suffix(".new")
    temporary.write_text(name + "\n", "ascii")
    os.replace(temporary, path)


def usable(data_root: Path) -> dict[str, str]:
    """Try every driver below an existing folder; return the reason why it fails, "" if it works."""
    found = {}
    for name, make in DRIVERS.items():
        folder = data_root / f".try-{name}-{os.getpid()}"
        folder.mkdir()
        try:
            make(folder)
            found[name] = ""
        except Unsupported as error:
            found[name] = str(error)
        finally:
            folder.rmdir()
    return found
