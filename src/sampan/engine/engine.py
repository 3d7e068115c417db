"""The engine: its components and its nouns, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypedDict

from sampan.distribution.registries import Registries
from sampan.engine.building.building import Building
from sampan.engine.containers.archive import Archives
from sampan.engine.containers.attaching import Attaching
from sampan.engine.containers.container import Record
from sampan.engine.containers.containers import Containers
from sampan.engine.containers.creation import Creation
from sampan.engine.containers.execs import Execs
from sampan.engine.containers.inspection import Inspection
from sampan.engine.containers.launching import Launching
from sampan.engine.containers.lifecycle import Lifecycle
from sampan.engine.containers.logs import Logs
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.notices import Notices
from sampan.engine.containers.reconcile import Reconciliation
from sampan.engine.containers.removal import Removal
from sampan.engine.containers.stats import Stats
from sampan.engine.containers.store import ContainerStore
from sampan.engine.containers.updating import Updating
from sampan.engine.database import Database
from sampan.engine.events import Events
from sampan.engine.images.images import Images, ImageUse
from sampan.engine.images.transfers import TransferLimits
from sampan.engine.networks.links import Links
from sampan.engine.networks.membership import Membership
from sampan.engine.networks.networks import NetworkOptions, Networks
from sampan.engine.networks.plugging import Plugging
from sampan.engine.oci.cdi import DeviceNames
from sampan.engine.oci.cgroup_placement import CgroupPlacement
from sampan.engine.oci.id_ranges import IdRanges
from sampan.engine.oci.security import Confinement
from sampan.engine.oci.specification import Specifications
from sampan.engine.oci.user_namespaces import UserNamespaces, UserOptions
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
from sampan.spec.docker.config import Ulimit
from sampan.spec.docker.networks import NetworkConnectRequest, NetworkDisconnectRequest
from sampan.storage.lender import Lender
from sampan.storage.mounter import DriverInfo, Mounter
from sampan.storage.volume_keeper import VolumeKeeper
from sampan.volumes.local import LocalDriver
from sampan.volumes.plugin import SECONDS as PLUGIN_SECONDS

DATABASE: Final = "database.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The daemon's options that concern containers (dockerd's names)."""

    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    default_ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    default_shm_size: int = 64 << 20
    confinement: Confinement = field(default_factory=Confinement)
    device_names: DeviceNames = field(default_factory=DeviceNames)
    placement: CgroupPlacement = field(default_factory=CgroupPlacement)
    init: bool = False
    live_restore: bool = True
    storage_options: Sequence[str] = ()  # --storage-opt of the daemon
    network: NetworkOptions = field(default_factory=NetworkOptions)
    users: UserOptions = field(default_factory=UserOptions)
    transfers: TransferLimits = field(default_factory=TransferLimits)
    plugin_seconds: float = PLUGIN_SECONDS  # that a volume plug-in may take for an answer


class Common(TypedDict):
    """What every part of the engine that changes containers needs."""

    table: Table
    store: ContainerStore
    networks: Networks
    mounter: Mounter
    mounts: ContainerMounts


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
        store, notices = ContainerStore(self._database), Notices(self.events)
        specifications = _specifications(data_root, options, self.storage)
        self.execs = Execs(self._table, spawner, specifications, self.events, self._tasks)
        common = Common(
            table=self._table, store=store, networks=self.networks, mounter=mounter, mounts=mounts
        )
        links = Links(self._table, self.networks)
        ranges = IdRanges(self._database, options.users.pool, os.fsencode(data_root))
        self.users = UserNamespaces(self._table, ranges, spawner, options.users)
        lifecycle = self._lifecycle(common, spawner, specifications, links, notices)
        self.containers = self._containers(
            common, spawner, lifecycle, links, notices, data_root, options
        )
        self.building = self._building(mounter, lender, options)
        self.plugging = Plugging(self._table, self.networks, spawner)
        self._membership = Membership(self._table, store, self.networks, spawner)
        self._reconciliation = Reconciliation(
            **common,
            volumes=self.volumes,
            driver=self.storage,
            spawner=spawner,
            lifecycle=lifecycle,
            tasks=self._tasks,
        )

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

    def _lifecycle(
        self,
        common: Common,
        spawner: Spawner,
        specifications: Specifications,
        links: Links,
        notices: Notices,
    ) -> Lifecycle:
        table, networks, mounts = common["table"], common["networks"], common["mounts"]
        launching = Launching(
            table=table,
            networks=networks,
            links=links,
            mounts=mounts,
            mounter=common["mounter"],
            spawner=spawner,
            specifications=specifications,
            users=self.users,
        )
        return Lifecycle(
            table=table,
            store=common["store"],
            networks=networks,
            links=links,
            mounts=mounts,
            spawner=spawner,
            launching=launching,
            notices=notices,
            tasks=self._tasks,
            execs=self.execs,
        )

    def _containers(
        self,
        common: Common,
        spawner: Spawner,
        lifecycle: Lifecycle,
        links: Links,
        notices: Notices,
        data_root: Path,
        options: EngineOptions,
    ) -> Containers:
        """Fit together what the verbs of containers need."""
        table, store = common["table"], common["store"]
        networks, mounter = common["networks"], common["mounter"]
        removal = Removal(
            **common,
            images=self.images,
            spawner=spawner,
            lifecycle=lifecycle,
            execs=self.execs,
            notices=notices,
            events=self.events,
        )
        lifecycle.auto_remove = removal.after_exit
        logs = Logs(data_root)
        return Containers(
            table=table,
            creation=self._creation(common, links, notices, options),
            lifecycle=lifecycle,
            removal=removal,
            updating=Updating(
                table=table,
                store=store,
                images=self.images,
                networks=networks,
                spawner=spawner,
                notices=notices,
            ),
            inspection=Inspection(
                table=table,
                images=self.images,
                networks=networks,
                links=links,
                mounter=mounter,
                data_root=data_root,
                confinement=options.confinement,
            ),
            attaching=Attaching(spawner, logs, notices),
            logging=logs,
            archives=Archives(mounter, spawner, notices, common["mounts"]),
            statistics=Stats(),
        )

    def _creation(
        self,
        common: Common,
        links: Links,
        notices: Notices,
        options: EngineOptions,
    ) -> Creation:
        return Creation(
            **common,
            links=links,
            images=self.images,
            notices=notices,
            driver=self.storage,
            users=self.users,
            default_shm_size=options.default_shm_size,
            confinement=options.confinement,
            device_names=options.device_names,
            placement=options.placement,
            log_driver=options.log_driver,
            log_options=options.log_options,
        )

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


def _specifications(
    data_root: Path, options: EngineOptions, storage: SnapshotDriver
) -> Specifications:
    return Specifications(
        data_root,
        options.default_ulimits,
        options.init,
        storage.limits_by_project,
        options.confinement,
        options.device_names,
        options.placement,
    )
