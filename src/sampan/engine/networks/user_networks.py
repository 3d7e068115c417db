"""The networks that users make and remove."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from sampan.engine.blocking import blocking
from sampan.engine.filters import Filters
from sampan.engine.networks import configs as network_configs
from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.model import PREDEFINED, Emit
from sampan.engine.networks.ranges import family_of
from sampan.engine.networks.requests import check_request, row_of
from sampan.engine.networks.store import NetworkStore
from sampan.errors import Conflict, Forbidden, InvalidArgument, Unavailable
from sampan.network import ipam
from sampan.spec.docker.networks import (
    IPAM,
    IPAMConfig,
    NetworkCreateRequest,
    NetworkCreateResponse,
    NetworksPruneReport,
)
from sampan.spec.image import nanoseconds
from sampan.spec.times import parse_time

_OVERLAP: Final = "invalid pool request: Pool overlaps with other one on this address space"
_PRUNE_FILTERS: Final = ("label", "label!", "until")


class UserNetworks:
    """Changes the networks of a store, one at a time. `emit` is that of `Networks`."""

    def __init__(self, store: NetworkStore, emit: Emit) -> None:
        self._store, self._emit = store, emit
        self._changes = asyncio.Lock()

    async def create(self, request: NetworkCreateRequest) -> NetworkCreateResponse:
        """Make a network of the user's."""
        check_request(request)
        async with self._changes:
            if self._store.named(request.name):
                raise Conflict(f"network with name {request.name} already exists")
            if request.config_only:
                row = network_configs.configuration(request)
                await self._store.add(row)
                self._tell("create", row)
                return NetworkCreateResponse(id=row.network.id)
            request = network_configs.configured(request, self._store.rows.values())
            check_request(request, is_complete=True)
            ranges = [await self._subnet(request)]
            if request.enable_ipv6:
                ranges.append(self._subnet6(request))
            row = row_of(request, ranges)
            await blocking(self._store.table.save, row)
            try:
                await self._store.bring_up(row)
            except BaseException:
                await blocking(self._store.table.delete, row.network.id)
                await blocking(self._store.plumber.remove_network, row.network.id)
                raise
            self._store.rows[row.network.id] = row
            self._store.endpoints.open(row)
        self._tell("create", row)
        return NetworkCreateResponse(id=row.network.id)

    async def _subnet(self, request: NetworkCreateRequest) -> IPAMConfig:
        """Return the address range of a new network, checked against those that exist."""
        taken = [row.subnet for row in self._store.rows.values() if row.interface]
        given = [
            config
            for config in (request.ipam or IPAM()).config or []
            if family_of(config.subnet) == 4
        ]
        if given:
            subnet = IPv4Network(given[0].subnet)
            if any(subnet.overlaps(other) for other in taken):
                raise Forbidden(_OVERLAP)
            return given[0]
        pools = ipam.subnets(self._store.options.default_address_pools)
        return IPAMConfig(subnet=await self._store.free_subnet(pools, [str(one) for one in taken]))

    def _subnet6(self, request: NetworkCreateRequest) -> IPAMConfig:
        """Return the range of IPv6 of a new network: the user's, or a free one of our own."""
        taken = [row.subnet6 for row in self._store.rows.values() if row.interface and row.subnet6]
        for config in (request.ipam or IPAM()).config or []:
            if family_of(config.subnet) == 6:
                if any(IPv6Network(config.subnet).overlaps(other) for other in taken):
                    raise Forbidden(_OVERLAP)
                return config
        return IPAMConfig(subnet=str(ipam.unique_local(self._store.seed, taken)))

    async def remove(self, reference: str) -> str:
        """Remove a network that no container uses, and return its id."""
        async with self._changes:
            row = self._store.find(reference)
            name = row.network.name
            if name in PREDEFINED:
                raise Forbidden(f"{name} is a pre-defined network and cannot be removed")
            if used := self._store.endpoints.resources(row.network.id):
                who = ", ".join(
                    f'name:"{it.name}" id:"{it.endpoint_id[:12]}"' for it in used.values()
                )
                raise Forbidden(
                    f"error while removing network: network {name} has active endpoints ({who})"
                )
            network_configs.check_unused(row.network, self._store.rows.values())
            self._store.down.add(row.network.id)  # if this fails, nobody knows how far it came
            try:
                await blocking(self._store.plumber.remove_network, row.network.id)
            except Unavailable:  # the helper was killed: its successor does the rest
                await blocking(self._store.plumber.remove_network, row.network.id)
            await blocking(self._store.table.delete, row.network.id)
            self._store.down.discard(row.network.id)
            del self._store.rows[row.network.id]
            self._store.endpoints.shut(row)
        self._tell("destroy", row)
        return row.network.id

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> NetworksPruneReport:
        """Remove all user-defined networks that no container uses."""
        wanted = Filters(filters, _PRUNE_FILTERS)
        until = _until(wanted)
        deleted = []
        for row in list(self._store.rows.values()):
            network = row.network
            if network.name in PREDEFINED or network.config_only or self._store.in_use(row):
                continue
            if not wanted.labels(network.labels) or not wanted.without_labels(network.labels):
                continue
            if until is not None and nanoseconds(network.created) > until:
                continue
            await self.remove(network.id)
            deleted.append(network.name)
        return NetworksPruneReport(networks_deleted=deleted or None)

    def _tell(self, action: str, row: NetworkRow) -> None:
        network = row.network
        self._emit(action, network.id, {"name": network.name, "type": network.driver})


def _until(wanted: Filters) -> int | None:
    """Return the time of the filter `until` in nanoseconds since the epoch; None without one."""
    values = wanted.values("until")
    if len(values) > 1:
        raise InvalidArgument("more than one until filter specified")
    return parse_time(values[0]) if values else None
