"""Making what a container runs on, all at once where it can be, and having its process started."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

from sampan.engine.blocking import blocking
from sampan.engine.containers import joining
from sampan.engine.containers.borrowing import Borrowed
from sampan.engine.containers.container import Container, Record
from sampan.engine.containers.lookup import Table
from sampan.engine.networks.links import Links
from sampan.engine.networks.networks import Connection, Networks, Wish
from sampan.engine.networks.wishes import wish
from sampan.engine.oci import ownership as oci_ownership
from sampan.engine.oci.specification import Specifications
from sampan.engine.oci.user_namespaces import UserNamespaces
from sampan.engine.volumes.container_mounts import ContainerMounts, Ready
from sampan.errors import SampanError
from sampan.rpc import Fd
from sampan.runtime.spawner import Launch, Spawner, Started
from sampan.storage.mounter import Mounter


class Launching:
    """Brings root, mounts, network and specification of a container together."""

    def __init__(
        self,
        *,
        table: Table,
        networks: Networks,
        links: Links,
        mounts: ContainerMounts,
        mounter: Mounter,
        spawner: Spawner,
        specifications: Specifications,
        users: UserNamespaces,
    ) -> None:
        self._table, self._networks, self._links = table, networks, links
        self._mounts, self._mounter, self._spawner = mounts, mounter, spawner
        self._specifications, self._users = specifications, users

    async def launch(self, container: Container, borrowed: Borrowed | None) -> Started:
        """Start the process of a container; raises SampanError, and nothing is left then."""
        record = container.record
        pull_in = joining.joined(self._table, container)
        async with AsyncExitStack() as lent, AsyncExitStack() as undo:
            spaces = await self._users.make(container, lent)
            if spaces.joined:
                pull_in["user"] = spaces.joined
            mounting = asyncio.ensure_future(
                blocking(self._mounter.mount, record.id, user=spaces.user)
            )
            undo.push_async_callback(_close_result, mounting)
            undo.push_async_callback(self._networks.disconnect, record.id)
            ready = await self._mounts.mount(record, namespace=spaces.user)
            undo.push_async_callback(self._mounts.unmount, record)
            undo.callback(ready.close)
            connection = await self._networks.connect(self._wish(record), spaces.network)
            if connection.namespace:
                undo.callback(connection.namespace.close)
            if record.host_config.links:
                await self._networks.link(record.id, self._links.peers(record))
            if borrowed:
                await borrowed.make(record.id_maps, spaces.user)
            root = await mounting
            started = await blocking(
                self._spawner.start,
                self._request(container, connection, pull_in, ready, borrowed),
                root,
                connection.namespace,
                None if spaces.joined else spaces.user,
            )
            container.network = connection.settings
            undo.pop_all()
        record.late_fills = []
        ready.close()
        root.close()
        if connection.namespace:
            connection.namespace.close()
        return started

    def _wish(self, record: Record) -> Wish:
        wanted = wish(record)
        if not record.host_config.links:
            return wanted
        linked = record.linked = self._links.hosts(record)
        return replace(wanted, extra_hosts=[*wanted.extra_hosts, *linked])

    def _request(
        self,
        container: Container,
        connection: Connection,
        pull_in: dict[str, int],
        ready: Ready,
        borrowed: Borrowed | None,
    ) -> Launch:
        record = container.record
        spec = self._specifications.container_spec(record, files_of=self._files_of(container))
        oci_ownership.leave(spec.mounts, ready.foreign_ids)
        if record.host_config.links and spec.process:
            own = {item.partition("=")[0] for item in spec.process.env}
            linked = self._links.environment(record)
            spec.process.env += [item for item in linked if item.partition("=")[0] not in own]
        if borrowed:
            borrowed.complete(spec)
        return Launch(
            id=record.id,
            spec=spec,
            streams=self._specifications.streams(record),
            files=connection.files,
            make_sources=self._specifications.make_sources(record),
            sources=[*ready.sources, *(borrowed.sources if borrowed else ())],
            pull_in=pull_in,
            user=record.config.user,
            groups=record.host_config.group_add or [],
        )

    def _files_of(self, container: Container) -> str:
        """Return the container whose hosts and resolv.conf are shown: that of the network."""
        mode = container.host_config.network_mode
        if mode.startswith("container:"):
            return self._table.find(mode.removeprefix("container:")).id
        return ""


async def _close_result(future: asyncio.Future[Fd]) -> None:
    """Wait for a descriptor that is on its way, and close it."""
    with suppress(SampanError):
        (await future).close()
