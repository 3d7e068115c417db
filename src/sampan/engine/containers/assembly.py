"""Fitting together what the verbs of containers need."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sampan.engine.containers.archive import Archives
from sampan.engine.containers.attaching import Attaching
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
from sampan.engine.images.images import Images
from sampan.engine.networks.links import Links
from sampan.engine.networks.networks import Networks
from sampan.engine.oci.id_ranges import IdRanges
from sampan.engine.oci.specification import Specifications
from sampan.engine.oci.user_namespaces import UserNamespaces
from sampan.engine.options import EngineOptions
from sampan.engine.snapshot_driver import SnapshotDriver
from sampan.engine.tasks import Tasks
from sampan.engine.volumes.container_mounts import ContainerMounts
from sampan.engine.volumes.volumes import Volumes
from sampan.runtime.spawner import Spawner
from sampan.storage.mounter import Mounter


@dataclass(kw_only=True)
class Assembly:
    """What an engine has before it has containers, and what is made of that for them."""

    options: EngineOptions
    data_root: Path
    database: Database
    table: Table
    networks: Networks
    images: Images
    volumes: Volumes
    mounter: Mounter
    mounts: ContainerMounts
    spawner: Spawner
    driver: SnapshotDriver
    events: Events
    tasks: Tasks

    def __post_init__(self) -> None:
        self.store, self.notices = ContainerStore(self.database), Notices(self.events)
        self.links = Links(self.table, self.networks)
        users = self.options.users
        ranges = IdRanges(self.database, users.pool, os.fsencode(self.data_root))
        self.users = UserNamespaces(self.table, ranges, self.spawner, users)
        self.specifications = self._specifications()
        self.execs = Execs(self.table, self.spawner, self.specifications, self.events, self.tasks)
        self._lifecycle = self._made_lifecycle()

    def _specifications(self) -> Specifications:
        options = self.options
        return Specifications(
            self.data_root,
            options.default_ulimits,
            options.init,
            self.driver.limits_by_project,
            options.confinement,
            options.device_names,
            options.placement,
        )

    def _made_lifecycle(self) -> Lifecycle:
        launching = Launching(
            table=self.table,
            networks=self.networks,
            links=self.links,
            mounts=self.mounts,
            mounter=self.mounter,
            spawner=self.spawner,
            specifications=self.specifications,
            users=self.users,
        )
        return Lifecycle(
            table=self.table,
            store=self.store,
            networks=self.networks,
            links=self.links,
            mounts=self.mounts,
            spawner=self.spawner,
            launching=launching,
            notices=self.notices,
            tasks=self.tasks,
            execs=self.execs,
        )

    def containers(self) -> Containers:
        """Return the verbs of containers; those with `--rm` go at their end from now on."""
        removal = self._removal()
        self._lifecycle.auto_remove = removal.after_exit
        logs = Logs(self.data_root)
        return Containers(
            table=self.table,
            creation=self._creation(),
            lifecycle=self._lifecycle,
            removal=removal,
            updating=self._updating(),
            inspection=self._inspection(),
            attaching=Attaching(self.spawner, logs, self.notices),
            logging=logs,
            archives=Archives(self.mounter, self.spawner, self.notices, self.mounts),
            statistics=Stats(),
        )

    def reconciliation(self) -> Reconciliation:
        """Return what compares all of it at the start with what runs."""
        return Reconciliation(
            table=self.table,
            store=self.store,
            networks=self.networks,
            mounter=self.mounter,
            volumes=self.volumes,
            mounts=self.mounts,
            driver=self.driver,
            spawner=self.spawner,
            lifecycle=self._lifecycle,
            tasks=self.tasks,
        )

    def _creation(self) -> Creation:
        options = self.options
        return Creation(
            table=self.table,
            store=self.store,
            networks=self.networks,
            mounter=self.mounter,
            mounts=self.mounts,
            links=self.links,
            images=self.images,
            notices=self.notices,
            driver=self.driver,
            users=self.users,
            default_shm_size=options.default_shm_size,
            confinement=options.confinement,
            device_names=options.device_names,
            placement=options.placement,
            log_driver=options.log_driver,
            log_options=options.log_options,
        )

    def _removal(self) -> Removal:
        return Removal(
            table=self.table,
            store=self.store,
            networks=self.networks,
            mounter=self.mounter,
            mounts=self.mounts,
            images=self.images,
            spawner=self.spawner,
            lifecycle=self._lifecycle,
            execs=self.execs,
            notices=self.notices,
            events=self.events,
        )

    def _updating(self) -> Updating:
        return Updating(
            table=self.table,
            store=self.store,
            images=self.images,
            networks=self.networks,
            spawner=self.spawner,
            notices=self.notices,
        )

    def _inspection(self) -> Inspection:
        return Inspection(
            table=self.table,
            images=self.images,
            networks=self.networks,
            links=self.links,
            mounter=self.mounter,
            data_root=self.data_root,
            confinement=self.options.confinement,
        )
