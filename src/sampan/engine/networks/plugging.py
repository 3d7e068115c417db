"""Plugging interfaces into running containers by hand, in the spirit of pipework; ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.containers.lookup import Table
from sampan.engine.networks.model import CONTAINER, HOST
from sampan.engine.networks.networks import Networks
from sampan.errors import Conflict, InvalidArgument
from sampan.network.plumber import ToPeer
from sampan.rpc import Fd
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.plugs import Plug, PlugRequest


class Plugging:
    """Plugs, shows and unplugs; what is plugged ends with the run of the container."""

    def __init__(self, table: Table, networks: Networks, spawner: Spawner) -> None:
        self._table, self._plugs, self._spawner = table, networks.plugs, spawner

    async def plug(self, reference: str, request: PlugRequest) -> Plug:
        """Give a running container one more interface.

        Raises Conflict if a container does not run or has no network of its own.
        """
        containers = [self._table.find(reference)]
        if request.peer:
            other = self._table.find(request.peer.container)
            if other is containers[0]:
                raise InvalidArgument("a container cannot be connected with itself")
            containers.append(other)
            peer = msgspec.structs.replace(request.peer, container=other.id)
            request = msgspec.structs.replace(request, peer=peer)
        async with self._locked(containers) as namespaces:
            own, *others = namespaces
            return await self._plugs.plug(
                containers[0].id, request, own, others[0] if others else None
            )

    async def of(self, reference: str) -> list[Plug]:
        """Return what is plugged into a container."""
        return self._plugs.of(self._table.find(reference).id)

    async def unplug(self, reference: str, interface: str) -> None:
        """Take one interface back, by its name in the container; NotFound."""
        spec = self._plugs.find(self._table.find(reference).id, interface)
        containers = [self._table.find(spec.container_id)]
        if isinstance(spec.into, ToPeer):
            containers.append(self._table.find(spec.into.container_id))
        async with self._locked(containers) as namespaces:
            own, *others = namespaces
            await self._plugs.unplug(spec, own, others[0] if others else None)

    @asynccontextmanager
    async def _locked(self, containers: Sequence[Container]) -> AsyncIterator[list[Fd]]:
        """Keep containers from ending, and lend their network namespaces."""
        async with AsyncExitStack() as stack:
            for container in sorted(containers, key=lambda it: it.id):  # the same order everywhere
                await stack.enter_async_context(container.lock)
            namespaces = []
            for container in containers:
                _check(container)
                namespace = await blocking(self._spawner.network, container.id)
                namespaces.append(stack.enter_context(namespace))
            yield namespaces


def _check(container: Container) -> None:
    mode = container.host_config.network_mode
    if not container.running:
        raise Conflict(f"container {container.id} is not running")
    if mode == HOST:
        raise Conflict(f"container {container.id} has the host's network: nothing is plugged there")
    if mode.startswith(CONTAINER):
        owner = mode.removeprefix(CONTAINER)
        raise Conflict(f"container {container.id} has the network of {owner}: plug into that one")
