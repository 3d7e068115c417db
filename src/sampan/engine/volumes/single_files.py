"""Files that are bound by themselves: followed when an editor replaces them on the host.

Editors write a new file and rename it over the old one; the mount would stay with the old one. The
helper watches the folder, and the spawner binds the file again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.tasks import Tasks
from sampan.errors import SampanError
from sampan.linux import inotify
from sampan.runtime.spawner import Bind, Spawner
from sampan.spec.docker.config import Mount
from sampan.spec.docker.containers import MountPoint
from sampan.storage.volume_keeper import FileWatch, VolumeKeeper

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    container: Container
    watch: FileWatch
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # one file is bound after the other


class SingleFiles:
    """Follows the bound files of running containers."""

    def __init__(self, keeper: VolumeKeeper, spawner: Spawner, tasks: Tasks) -> None:
        self._keeper, self._spawner, self._tasks = keeper, spawner, tasks
        self._watched: dict[str, _Watched] = {}  # by container id

    def begin(self, container: Container) -> None:
        """Follow the files of a container that has just started."""
        if sources := [point.source for point in _bound(container)]:
            self._tasks.spawn(self._follow(container, sources), f"files of {container.short_id}")

    async def _follow(self, container: Container, sources: list[str]) -> None:
        try:
            watch = await blocking(self._keeper.watch_files, sources)
        except SampanError as error:
            log.warning("files of container %s are not followed: %s", container.short_id, error)
            return
        if watch is None:
            return
        if not container.running or container.id in self._watched:
            watch.events.close()
            return
        self._watched[container.id] = _Watched(container, watch)
        loop = asyncio.get_running_loop()
        loop.add_reader(watch.events.number, self._changed, container.id)

    def leave(self, container: Container) -> None:
        """End with a container that has ended."""
        watched = self._watched.pop(container.id, None)
        if watched:
            asyncio.get_running_loop().remove_reader(watched.watch.events.number)
            watched.watch.events.close()

    def close(self) -> None:
        """End with all."""
        for watched in list(self._watched.values()):
            self.leave(watched.container)

    def _changed(self, id: str) -> None:
        watched = self._watched[id]
        happened = set(inotify.read_events(watched.watch.events.number))
        for point in _bound(watched.container):
            folder = watched.watch.files.get(point.source)
            if (folder, os.fsencode(os.path.basename(point.source))) in happened:
                name = f"file {point.source} of {watched.container.short_id}"
                self._tasks.spawn(self._bind_again(watched, point), name)

    async def _bind_again(self, watched: _Watched, point: MountPoint) -> None:
        container = watched.container
        bind = Bind(source=point.source, destination=point.destination, read_only=not point.rw)
        try:
            async with watched.lock:
                await blocking(self._spawner.rebind, container.id, bind)
        except SampanError as error:
            log.warning(
                "container %s goes on with the old %s: %s", container.short_id, point.source, error
            )


def _bound(container: Container) -> list[MountPoint]:
    """Return the binds that could be followed: an id-mapped one has its owner from its start."""
    record = container.record
    if record.id_maps is not None:
        return []
    return [
        point
        for point in record.mounts
        if point.type == "bind"
        and not {"idmap", "U"} & set(point.mode.split(","))
        and record.specs.get(point.destination, Mount()).type == "bind"
    ]
