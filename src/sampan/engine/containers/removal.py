"""Removing containers: one by one, or all that do not run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.containers.execs import Execs
from sampan.engine.containers.lifecycle import Lifecycle
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.notices import Notices
from sampan.engine.containers.store import ContainerStore
from sampan.engine.containers.waiting import settle_removal
from sampan.engine.events import Events
from sampan.engine.filters import Filters
from sampan.engine.images.images import Images
from sampan.engine.networks.networks import Networks
from sampan.engine.volumes.container_mounts import ContainerMounts
from sampan.errors import Conflict, NoSpace, SampanError
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.containers import ContainersPruneReport
from sampan.spec.times import parse_time
from sampan.storage.mounter import Mounter

log = logging.getLogger(__name__)


class Removal:
    """Source: moby daemon/delete.go, prune.go."""

    def __init__(
        self,
        *,
        table: Table,
        store: ContainerStore,
        networks: Networks,
        images: Images,
        mounts: ContainerMounts,
        mounter: Mounter,
        spawner: Spawner,
        lifecycle: Lifecycle,
        execs: Execs,
        notices: Notices,
        events: Events,
    ) -> None:
        self._table, self._store, self._networks, self._images = table, store, networks, images
        self._mounter, self._spawner, self._lifecycle = mounter, spawner, lifecycle
        self._execs, self._notices, self._events = execs, notices, events
        self._mounts = mounts

    async def remove(
        self,
        container: Container,
        *,
        force: bool = False,
        volumes: bool = False,
    ) -> None:
        """Remove a container; one that runs only by force."""
        if container.removing:
            raise Conflict(f"removal of container {container.name} is already in progress")
        if (container.running or container.restarting) and not force:
            raise Conflict(_refusal(container))
        container.removing = True
        try:
            async with container.lock:
                await self._lifecycle.kill_for_removal(container)
                await self._erase(container, volumes=volumes)
        except BaseException:
            container.removing = False
            raise

    async def unlink(self, ref: str) -> None:
        """Remove the link `parent/alias`; both containers stay."""
        child = self._table.find(ref)
        name, _, alias = ref.removeprefix("/").partition("/")
        if not alias:
            raise Conflict("Conflict, cannot remove the default link name of the container")
        parent = self._table.find(name)
        links = parent.host_config.links or []
        async with parent.lock:
            parent.host_config.links = [it for it in links if it != f"{child.id}:{alias}"] or None
            await self._store.save(parent)

    async def after_exit(self, container: Container) -> None:
        """Remove a container that asked to be removed at its end (`--rm`)."""
        if container.removing or self._table.get(container.id) is None:
            return
        container.removing = True
        try:
            await self._erase(container, volumes=True)
        except SampanError as error:
            log.warning("container %s could not be removed: %s", container.short_id, error)
            container.removing = False

    async def _erase(self, container: Container, *, volumes: bool) -> None:
        """Take away all that the container is made of; the row goes first, so none comes back."""
        await self._mounts.forget(container.record)
        try:
            await self._store.delete(container)
        except NoSpace:  # to forget takes room, too, which may be what this container has taken
            await self._clear(container)
            await self._store.delete(container)
        self._table.discard(container)
        self._execs.forget(container)
        with suppress(SampanError):
            await self._networks.disconnect(container.id)
        await self._clear(container)
        if volumes:
            await self._mounts.remove_anonymous(container.record)
        image = container.record.image
        if image and self._images.get(image) is None:  # removed by force before
            await self._images.collect_quietly()
        self._notices.container(container, "destroy")
        settle_removal(container)

    async def _clear(self, container: Container) -> None:
        """Take away its files; what is gone already is no error."""
        for step in (
            partial(self._spawner.forget, container.id, remove=True),
            partial(self._mounter.remove, container.id),
        ):
            try:
                await blocking(step)
            except SampanError as error:
                log.warning("container %s left something: %s", container.short_id, error)

    async def prune(self, wanted: Mapping[str, Sequence[str]]) -> ContainersPruneReport:
        """Remove all containers that do not run and pass the filters."""
        filters = Filters(wanted, ("label", "label!", "until"))
        until = min((parse_time(text) for text in filters.values("until")), default=None)
        removed, space = [], 0
        for container in self._table:
            labels = container.config.labels or {}
            if (
                container.running
                or container.restarting
                or container.removing
                or (until is not None and container.record.created > until)
                or not filters.labels(labels)
                or not filters.without_labels(labels)
            ):
                continue
            with suppress(SampanError):
                space += (await blocking(self._mounter.usage, container.id)).size
                await self.remove(container)
                removed.append(container.id)
        self._events.publish("container", "prune", "", {"reclaimed": str(space)})
        return ContainersPruneReport(containers_deleted=removed or None, space_reclaimed=space)


def _refusal(container: Container) -> str:
    name, state = container.name, container.status
    start = f'cannot remove container "{name}": container is {state}: '
    if container.record.paused:
        return start + "unpause and stop the container before removing or force remove"
    return start + "stop the container before removing or force remove"
