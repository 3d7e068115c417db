"""The start of an engine: what is on disk is compared with what runs, and repaired."""

from __future__ import annotations

import logging
import time

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container, Record
from sampan.engine.containers.lifecycle import UNKNOWN_EXIT, Lifecycle
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.restart import wants_restart
from sampan.engine.containers.store import ContainerStore
from sampan.engine.networks.networks import Networks
from sampan.engine.networks.wishes import wish
from sampan.engine.snapshot_driver import SnapshotDriver
from sampan.engine.tasks import Tasks
from sampan.engine.volumes.container_mounts import ContainerMounts
from sampan.engine.volumes.volumes import Volumes
from sampan.errors import SampanError
from sampan.runtime.spawner import Spawner, TaskStatus
from sampan.runtime.spawning.tasks import boot_id
from sampan.spec.names import ID
from sampan.storage.mounter import Mounter

log = logging.getLogger(__name__)


class Reconciliation:
    """Brings memory, disk and kernel together. Source: moby daemon.go, restore."""

    def __init__(
        self,
        *,
        table: Table,
        store: ContainerStore,
        networks: Networks,
        mounter: Mounter,
        volumes: Volumes,
        mounts: ContainerMounts,
        driver: SnapshotDriver,
        spawner: Spawner,
        lifecycle: Lifecycle,
        tasks: Tasks,
    ) -> None:
        self._table, self._store, self._networks = table, store, networks
        self._mounter, self._spawner = mounter, spawner
        self._lifecycle, self._tasks = lifecycle, tasks
        self._driver, self._volumes, self._mounts = driver, volumes, mounts
        self._elsewhere: set[str] = set()  # containers of another storage driver

    async def run(self) -> None:
        """Repair everything, and start what its policy wants started."""
        for record in self._store.load():
            if record.driver != self._driver.name:
                self._leave_out(record)
                continue
            container = Container(record)
            container.ended.set()
            self._table.add(container)
        await self._volumes.start([*self._table.ids(), *self._elsewhere])
        tasks = await blocking(self._spawner.tasks)
        statuses = {task.id: task for task in tasks if not task.exec_id}
        await self._clean(statuses)
        alive = []
        for container in self._table:
            status = statuses.get(container.id)
            if status and status.state != "stopped" and await self._resume(container, status):
                alive.append(container)
        had_volumes = [it.record for it in self._table if it in alive or it.record.started]
        self._mounts.resume(had_volumes)
        await self._networks.start([wish(container.record) for container in alive])
        await self._resume_names(alive)
        for container in self._table:
            if container in alive:
                container.network = self._networks.settings(container.id)
                self._note_links(container)
            else:
                await self._settle(container, statuses.get(container.id))
        await self._volumes.let_go_unused()

    def _leave_out(self, record: Record) -> None:
        """Let a container be whose file system is with another storage driver, as Docker does."""
        self._elsewhere.add(record.id)
        log.warning(
            "container %s (%s) is with the storage driver %s, and not shown while %s is used",
            *(record.id[:12], record.name, record.driver, self._driver.name),
        )

    def _note_links(self, container: Container) -> None:
        """Know again which lines of a container's hosts are those of its links."""
        for line in container.record.linked:
            self._networks.relink(container.id, line)

    async def _resume_names(self, alive: list[Container]) -> None:
        """Have running containers find names, also if the resolver died with its helper."""
        for container in alive:
            if self._networks.has_names(container.id):
                try:
                    with await blocking(self._spawner.network, container.id) as namespace:
                        await self._networks.resume(container.id, namespace)
                except SampanError as error:
                    log.warning("container %s finds no names: %s", container.short_id, error)

    async def _clean(self, statuses: dict[str, TaskStatus]) -> None:
        """Take away what belongs to no container: tasks, folders, snapshots."""
        known = {container.id for container in self._table} | self._elsewhere
        for gone in statuses.keys() - known:
            log.warning("a task of the unknown container %s is removed", gone[:12])
            await self._quietly(self._spawner.signal, gone, signal=9)
            await self._quietly(self._spawner.wait, gone)
            await self._quietly(self._spawner.forget, gone, remove=True)
        for snapshot in await blocking(self._mounter.snapshots):
            key = snapshot.key
            if snapshot.kind == "active" and ID.fullmatch(key) and key not in known:
                log.info("the snapshot of the unknown container %s is removed", key)
                await self._quietly(self._spawner.forget, key, remove=True)
                await self._quietly(self._mounter.remove, key)

    async def _quietly(self, call: object, *arguments: object, **named: object) -> None:
        try:
            await blocking(call, *arguments, **named)  # type: ignore[arg-type]
        except SampanError as error:
            log.debug("%s: %s", call, error)

    async def _resume(self, container: Container, status: TaskStatus) -> bool:
        """Watch a container that runs; tell whether it still does."""
        record = container.record
        try:
            started = await blocking(self._spawner.pidfd, container.id)
        except SampanError:
            return False
        record.started, record.pid = True, started.pid
        record.started_at = record.started_at or started.started_at
        record.paused, record.boot_id = status.state == "paused", boot_id()
        container.running = True
        container.ended.clear()
        self._lifecycle.resume(container, started)
        await self._store.save(container)
        return True

    async def _settle(self, container: Container, status: TaskStatus | None) -> None:
        """Note the end of a container that ended while nobody looked, and apply its policy."""
        record = container.record
        if not record.started and not (status and status.started_at > record.started_at):
            if status:
                await self._quietly(self._spawner.forget, container.id)
            return
        if status:
            record.started_at = record.started_at or status.started_at
            record.finished_at = status.finished_at or time.time_ns()
            record.oom_killed = status.oom_killed
            code = UNKNOWN_EXIT if status.exit_code is None else status.exit_code
            await self._lifecycle.ended(container, code, status.lost)
            return
        rebooted = record.boot_id != boot_id()
        record.finished_at = record.finished_at or time.time_ns()
        reason = "" if rebooted else "the container was lost together with its spawner"
        container.stop_requested = record.manually_stopped
        if rebooted and wants_restart(container):
            log.info("container %s ran before the reboot and starts again", container.short_id)
        await self._lifecycle.ended(container, UNKNOWN_EXIT, reason)
