"""All that the storage helper serves on its one socket."""

from __future__ import annotations

from typing import Any, Protocol

from sampan.storage.lender import Lender
from sampan.storage.linux_lender import LinuxLender
from sampan.storage.linux_mounter import LinuxMounter
from sampan.storage.linux_volume_keeper import LinuxVolumeKeeper
from sampan.storage.mounter import Mounter
from sampan.storage.volume_keeper import VolumeKeeper


class Storage(Mounter, VolumeKeeper, Lender, Protocol):
    """Snapshots, volumes, and files in memory."""


class LinuxStorage:
    """Hands each call to the part that it belongs to."""

    def __init__(self, mounter: LinuxMounter, keeper: LinuxVolumeKeeper) -> None:
        self._mounter, self._keeper, self._lender = mounter, keeper, LinuxLender()

    def __getattr__(self, name: str) -> Any:
        if hasattr(VolumeKeeper, name):
            return getattr(self._keeper, name)
        if hasattr(Lender, name):
            return getattr(self._lender, name)
        return getattr(self._mounter, name)
