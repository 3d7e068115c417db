"""A world of volumes without a helper: folders are a set, and containers a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sampan.engine.containers.container import Record
from sampan.engine.database import Database
from sampan.engine.images.images import Images
from sampan.engine.tasks import Tasks
from sampan.engine.volumes.container_mounts import ContainerMounts
from sampan.engine.volumes.database import VolumeDatabase
from sampan.engine.volumes.drivers import Drivers
from sampan.engine.volumes.single_files import SingleFiles
from sampan.engine.volumes.store import VolumeStore, VolumeUse
from sampan.engine.volumes.volumes import Volumes
from sampan.errors import InvalidArgument, NoSpace, NotFound
from sampan.rpc import Fd
from sampan.runtime.spawner import Spawner
from sampan.spec.runtime import Mount
from sampan.storage.mounter import Mounter
from sampan.storage.volume_keeper import FileWatch, Fill, PluginSocket, VolumeFolder, VolumeUsage
from sampan.volumes.local import LocalDriver


@dataclass
class FakeKeeper:
    """Keeps folders in memory."""

    folders: dict[str, int] = field(default_factory=dict)  # the sizes that were asked for
    mounted: dict[str, Mount] = field(default_factory=dict)
    filled: list[Fill] = field(default_factory=list)
    full: bool = False
    broken_mounts: str = ""

    def make_volume(self, name: str, size: int = 0) -> None:
        if self.full:
            raise NoSpace("no space left on device")
        self.folders.setdefault(name, size)

    def volumes(self) -> list[VolumeFolder]:
        return [VolumeFolder(name=it, mounted=it in self.mounted) for it in sorted(self.folders)]

    def mount_volume(self, name: str, mount: Mount) -> None:
        if self.broken_mounts:
            raise InvalidArgument(self.broken_mounts)
        self.mounted.setdefault(name, mount)

    def unmount_volume(self, name: str) -> None:
        self.mounted.pop(name, None)

    def fill_volumes(self, root: Fd, fills: list[Fill]) -> None:
        self.filled += fills

    def remove_volume(self, name: str) -> None:
        self.folders.pop(name, None)

    def collect_volumes(self) -> None:
        return None

    def volume_usage(self, names: list[str]) -> dict[str, VolumeUsage]:
        return {it: VolumeUsage(size=100, allocated=4096) for it in names}

    def watch_files(self, paths: list[str]) -> FileWatch | None:
        return None

    def dial_plugin(self, name: str) -> PluginSocket:
        raise NotFound(f'plugin "{name}" not found')

    def plugins(self) -> list[str]:
        return []


class World:
    """Volumes, and what containers have of them."""

    def __init__(self, database: Path | str = ":memory:", keeper: FakeKeeper | None = None) -> None:
        self.keeper = keeper or FakeKeeper()
        self.database = Database(database)
        self.records: dict[str, Record] = {}
        self.running: set[str] = set()
        self.events: list[tuple[str, str, dict[str, str]]] = []
        self.tasks = Tasks()
        self.renew()

    def renew(self) -> None:
        """Start the engine's part again, on the same database and disk."""
        local = LocalDriver(self.keeper, Path("/data"), lambda host: "192.0.2.7")
        store = VolumeStore(
            VolumeDatabase(self.database),
            Drivers(local, self.keeper, ["/data"], 1),
            self.keeper,
            self._uses,
            self.tasks,
            self._emit,
        )
        self.volumes = Volumes(store)
        self.mounts = ContainerMounts(
            self.volumes,
            cast(Images, None),
            cast(Mounter, None),
            self.keeper,
            SingleFiles(self.keeper, cast(Spawner, None), self.tasks),
            self._record,
        )

    def _uses(self) -> list[VolumeUse]:
        return [
            VolumeUse(
                record.id,
                frozenset(str(it.name) for it in record.mounts if it.type == "volume"),
                record.id in self.running,
            )
            for record in self.records.values()
        ]

    def _emit(self, action: str, name: str, attributes: Mapping[str, str]) -> None:
        self.events.append((action, name, dict(attributes)))

    def _record(self, ref: str) -> Record:
        return self.records[ref]

    def actions(self) -> list[str]:
        """Return what has happened, as words."""
        return [f"{action} {name}" for action, name, _ in self.events]


def volume_world() -> World:
    """Return a new world."""
    return World()
