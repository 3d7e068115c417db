"""Containers that join and leave networks after they were made.

Source: moby daemon/container_operations.go.
"""

from __future__ import annotations

from dataclasses import replace

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.store import ContainerStore
from sampan.engine.networks.conflicts import check_leaving
from sampan.engine.networks.file_edits import edit_files
from sampan.engine.networks.networks import Networks
from sampan.engine.networks.wishes import wish
from sampan.errors import Conflict, Forbidden, NotFound
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.networks import (
    EndpointSettings,
    NetworkConnectRequest,
    NetworkDisconnectRequest,
)


class Membership:
    """Connects containers with networks: at once if they run, else at their next start."""

    def __init__(
        self, table: Table, store: ContainerStore, networks: Networks, spawner: Spawner
    ) -> None:
        self._table, self._store = table, store
        self._networks, self._spawner = networks, spawner

    async def connect(self, network: str, request: NetworkConnectRequest) -> None:
        """Connect a container with one more network."""
        name = (await self._networks.inspect(network)).name
        container = self._table.find(request.container)
        _check(container)
        async with container.lock:
            endpoints = container.record.endpoints
            asked = wish(container.record)
            if container.record.off_networks:
                asked = replace(asked, mode=name)
            self._networks.check_joining(asked, network, request.endpoint_config)
            if container.running:
                with await blocking(self._spawner.network, container.id) as namespace:
                    changes = await self._networks.join(
                        asked, network, request.endpoint_config, namespace
                    )
                await edit_files(self._spawner, container, changes)
                container.network = self._networks.settings(container.id)
            elif name in endpoints or name == _main(container):
                raise Forbidden(
                    f"endpoint with name {container.name} already exists in network {name}"
                )
            endpoints[name] = request.endpoint_config or EndpointSettings()
            if container.record.off_networks:
                container.host_config.network_mode = name
                container.record.off_networks = False
            await self._store.save(container)

    async def disconnect(self, network: str, request: NetworkDisconnectRequest) -> None:
        """Take a container off a network."""
        name = (await self._networks.inspect(network)).name
        try:
            container = self._table.find(request.container)
        except NotFound as error:
            if request.force:  # also what a lost container has left; nothing is left here
                raise NotFound(f"endpoint {request.container} not found") from error
            raise
        check_leaving(name)
        async with container.lock:
            endpoints = container.record.endpoints
            if container.running:
                with await blocking(self._spawner.network, container.id) as namespace:
                    changes = await self._networks.leave(container.id, network, namespace)
                await edit_files(self._spawner, container, changes)
                container.network = self._networks.settings(container.id)
            elif name not in endpoints and name != _main(container):
                raise Forbidden(f"container {container.id} is not connected to network {name}")
            endpoints.pop(name, None)
            if name == _main(container):
                container.host_config.network_mode = next(iter(endpoints), "none")
                container.record.off_networks = not endpoints and name != "none"
            await self._store.save(container)


def _main(container: Container) -> str:
    mode = container.host_config.network_mode
    return "bridge" if mode in ("", "default") else mode


def _check(container: Container) -> None:
    if container.removing or container.record.dead:
        raise Conflict(f"container {container.id} is marked for removal and cannot be connected")
