"""The engine: its components and its nouns, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Self

from sampan.distribution.registries import Registries
from sampan.engine.building.building import Building
from sampan.engine.containers.assembly import Assembly
from sampan.engine.containers.container import Record
from sampan.engine.containers.lookup import Table
from sampan.engine.database import Database
from sampan.engine.events import Events
from sampan.engine.images.images import Images, ImageUse
from sampan.engine.networks.membership import Membership
from sampan.engine.networks.networks import Networks
from sampan.engine.networks.plugging import Plugging
from sampan.engine.options import EngineOptions
from sampan.engine.registries import RegistryQueries
from sampan.engine.snapshot_driver import SnapshotDriver, image_root
from sampan.engine.tasks import Tasks
from sampan.engine.volumes.container_mounts import ContainerMounts
from sampan.engine.volumes.database import VolumeDatabase
from sampan.engine.volumes.drivers import Drivers
from sampan.engine.volumes.single_files import SingleFiles
from sampan.engine.volumes.store import VolumeStore, VolumeUse
from sampan.engine.volumes.volumes import Volumes
from sampan.errors import InvalidArgument, NotFound
from sampan.network.plumber import Plumber
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.networks import NetworkConnectRequest, NetworkDisconnectRequest
from sampan.storage.lender import Lender
from sampan.storage.mounter import DriverInfo, Mounter
from sampan.storage.volume_keeper import VolumeKeeper
from sampan.volumes.local import LocalDriver

DATABASE: Final = "database.sqlite"


class Engine:
    """Everything the daemon does, callable as a library; use it as an async context manager.

    Entering compares what is on disk with what runs, and repairs; leaving lets containers be.
    """

    def __init__(
        self,
        *,
        mounter: Mounter,
        keeper: VolumeKeeper,
        lender: Lender,
        plumber: Plumber,
        spawner: Spawner,
        data_root: Path,
        driver: DriverInfo | None = None,  # asked of the mounter, if it is not given
        options: EngineOptions | None = None,
        registries: Registries | None = None,
    ) -> None:
        options = options or EngineOptions()
        self._registries = registries or Registries()
        self.registries = RegistryQueries(self._registries)
        self.events, self._tasks, self._table = Events(), Tasks(), Table()
        self._database = Database(data_root / DATABASE)
        self.storage = SnapshotDriver(driver or mounter.driver(), options.storage_options)
        self.images = self._images(mounter, data_root, options)
        self.networks = Networks(self._database, plumber, options.network, self._emitter("network"))
        self.volumes = self._volumes(keeper, data_root, options)
        self._files = SingleFiles(keeper, spawner, self._tasks)
        mounts = ContainerMounts(
            self.volumes, self.images, mounter, keeper, self._files, self._record_of
        )
        parts = Assembly(
            options=options,
            data_root=data_root,
            database=self._database,
            table=self._table,
            networks=self.networks,
            images=self.images,
            volumes=self.volumes,
            mounter=mounter,
            mounts=mounts,
            spawner=spawner,
            driver=self.storage,
            events=self.events,
            tasks=self._tasks,
        )
        self.execs, self.users, self.containers = parts.execs, parts.users, parts.containers()
        self._reconciliation = parts.reconciliation()
        self.building = self._building(mounter, lender, options)
        self.plugging = Plugging(self._table, self.networks, spawner)
        self._membership = Membership(self._table, parts.store, self.networks, spawner)

    def _building(self, mounter: Mounter, lender: Lender, options: EngineOptions) -> Building:
        return Building(
            self.images, self.containers, mounter, lender, options.device_names, self.volumes
        )

    def _images(self, mounter: Mounter, data_root: Path, options: EngineOptions) -> Images:
        root = image_root(data_root, self.storage.info, self._database)
        shared = root == data_root
        self._image_database = self._database if shared else Database(root / DATABASE)
        return Images(
            root,
            self._image_database,
            mounter,
            driver=self.storage,
            data_root=data_root,
            uses=self._image_uses,
            containers=self._table.ids,
            emit=self._emitter("image"),
            registries=self._registries,
            limits=options.transfers,
        )

    def _volumes(self, keeper: VolumeKeeper, data_root: Path, options: EngineOptions) -> Volumes:
        local = LocalDriver(keeper, data_root)
        store = VolumeStore(
            VolumeDatabase(self._database),
            Drivers(local, keeper, [str(data_root)], options.plugin_seconds),
            keeper,
            self._volume_uses,
            self._tasks,
            self._emitter("volume"),
        )
        return Volumes(store)

    @property
    def build_database(self) -> Database:
        """Where the records of the build cache belong: beside the layers that they speak of."""
        return self._image_database

    async def __aenter__(self) -> Self:
        await self._registries.__aenter__()
        await self._reconciliation.run()
        await self.building.steps.clean()
        await self.images.clean()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        self._files.close()
        await self._registries.__aexit__(None, None, None)
        for container in self._table:
            container.close_watch()
        self._database.close()
        self._image_database.close()

    async def connect_network(self, network: str, request: NetworkConnectRequest) -> None:
        """Connect a container with one more network."""
        await self._membership.connect(network, request)

    async def disconnect_network(self, network: str, request: NetworkDisconnectRequest) -> None:
        """Take a container off a network."""
        await self._membership.disconnect(network, request)

    def _image_uses(self) -> Iterable[ImageUse]:
        for container in self._table:
            yield ImageUse(
                container=container.id, image=container.record.image, running=container.running
            )
            for image in set(container.record.images.values()):
                yield ImageUse(container=container.id, image=image, running=container.running)

    def _volume_uses(self) -> Iterable[VolumeUse]:
        for container in self._table:
            names = [str(it.name) for it in container.record.mounts if it.type == "volume"]
            if names:
                yield VolumeUse(container.id, frozenset(names), container.running)

    def _record_of(self, ref: str) -> Record:
        """Return the record of a container whose mounts another one takes over.

        Raises InvalidArgument if there is none: clients take NotFound for a missing image.
        """
        try:
            return self._table.find(ref).record
        except NotFound as error:
            raise InvalidArgument(str(error)) from error

    def _emitter(self, type: str) -> Callable[[str, str, Mapping[str, str]], None]:
        def emit(action: str, id: str, attributes: Mapping[str, str]) -> None:
            self.events.publish(type, action, id, attributes)

        return emit
