"""Networks: the three that are always there, bridges of users, and what containers get of them."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from sampan.engine.blocking import blocking
from sampan.engine.database import Database
from sampan.engine.filters import Filters as Filter
from sampan.engine.networks import configs as network_configs
from sampan.engine.networks import default_bridge, etc_files
from sampan.engine.networks.conflicts import check_joining, check_mode, check_several
from sampan.engine.networks.database import NetworkDatabase, NetworkRow
from sampan.engine.networks.endpoint_settings import (
    at_rest,
    check_address,
    check_mac,
    check_settings,
)
from sampan.engine.networks.endpoints import Endpoints
from sampan.engine.networks.model import (
    BRIDGE,
    CONTAINER,
    HOST,
    NONE,
    PREDEFINED,
    Connection,
    Emit,
    NetworkOptions,
    Wish,
)
from sampan.engine.networks.plugs import Plugs
from sampan.engine.networks.ranges import family_of
from sampan.engine.networks.requests import check_request, predefined, row_of
from sampan.engine.networks.specs import spec_of
from sampan.errors import (
    Conflict,
    Forbidden,
    InvalidArgument,
    NotFound,
    SampanError,
    Unavailable,
)
from sampan.network import ipam, ports
from sampan.network.plumber import Peer, Plumber
from sampan.rpc import Fd
from sampan.spec.docker.networks import (
    IPAM,
    EndpointSettings,
    IPAMConfig,
    Network,
    NetworkCreateRequest,
    NetworkCreateResponse,
    NetworkSettings,
    NetworksPruneReport,
)
from sampan.spec.image import timestamp

__all__ = ["Connection", "Emit", "Filters", "NetworkOptions", "Networks", "Wish"]

log = logging.getLogger(__name__)
Filters = Mapping[str, Sequence[str]]

_LIST_FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")
_OVERLAP: Final = "invalid pool request: Pool overlaps with other one on this address space"
_PRUNE_FILTERS: Final = ("label", "label!", "until")


def _silent(action: str, network_id: str, attributes: Mapping[str, str]) -> None:
    """Tell nobody."""


class Networks:
    """The networks of this engine.

    `emit` takes events: action (create, connect, disconnect, destroy), network id, attributes.
    """

    def __init__(
        self,
        database: Database,
        plumber: Plumber,
        options: NetworkOptions | None = None,
        emit: Emit = _silent,
    ) -> None:
        self._table = NetworkDatabase(database)
        self._plumber = plumber
        self._options = options or NetworkOptions()
        self._emit = emit
        self._endpoints = Endpoints(plumber, self._options, emit)
        self.plugs = Plugs(plumber, self._endpoints.addressing, self._on)
        self._rows: dict[str, NetworkRow] = {}
        self._down: set[str] = set()  # networks whose bridge could not be made
        self._changes = asyncio.Lock()
        self.warnings: list[str] = []

    # --- the engine's start ------------------------------------------------------------------

    async def start(self, running: Collection[Wish]) -> None:
        """Make or repair what must be there; `running` is what the running containers asked for.

        A bridge that cannot be made is a warning: what needs no bridge works.
        """
        rows = await blocking(self._table.all)
        self._rows = {row.network.id: row for row in rows}
        for name in (HOST, NONE):
            if not self._named(name):
                await self._add(NetworkRow(network=predefined(name, "null")))
        await self._prepare_default_bridge()
        for row in list(self._rows.values()):
            if row.interface:
                self._endpoints.open(row)
                try:
                    await self._bring_up(row)
                except SampanError as error:
                    self._down.add(row.network.id)
                    self._warn(f"the network {row.network.name} cannot be used: {error}")
        made = await blocking(self._plumber.endpoints)
        kept = self._endpoints.adopt(running, list(self._rows.values()), made)
        plugged = await blocking(self._plumber.plugs)
        kept += self.plugs.adopt(plugged, {wish.container_id for wish in running})
        bridges = [row.network.id for row in self._rows.values() if row.interface]
        await blocking(self._plumber.reconcile, kept, bridges)

    async def _prepare_default_bridge(self) -> None:
        """Have a row of the default bridge that follows the options, or none."""
        options, row = self._options, self._named(BRIDGE)
        if options.bridge == NONE:
            if row:
                del self._rows[row.network.id]
            return
        taken = [str(other.subnet) for other in self._rows.values() if _is_other(other, row)]
        made = await default_bridge.plan(options, self._plumber, row, taken, self._seed, self._warn)
        await self._add(made)

    async def _free_subnet(self, pools: list[str], taken: list[str], own: str = "") -> str:
        return await blocking(self._plumber.free_subnet, pools, taken, own)

    async def _bring_up(self, row: NetworkRow) -> None:
        spec = spec_of(row, forwarding=self._options.ip_forward)
        await blocking(self._plumber.ensure_network, spec)
        self._down.discard(row.network.id)
        if row.network.name == BRIDGE:
            self._endpoints.default_gateway = str(row.gateway)

    async def _add(self, row: NetworkRow) -> None:
        await blocking(self._table.save, row)
        self._rows[row.network.id] = row

    @property
    def _seed(self) -> str:
        """Return what is this engine's own, as long as its database lives."""
        return next(row.network.id for row in self._rows.values() if row.network.name == HOST)

    def _warn(self, sentence: str) -> None:
        log.warning(sentence)
        self.warnings.append(f"WARNING: {sentence}")

    # --- containers --------------------------------------------------------------------------

    async def check(self, wish: Wish) -> list[str]:
        """Check what `create` can check, and return warnings.

        Raises InvalidArgument in Docker's words. That a network exists is checked at the start.
        """
        ports.check(wish.port_bindings, wish.exposed_ports)
        check_mac(wish.mac_address)
        for name, wanted in wish.endpoints.items():
            check_settings(name, wanted)
        for text in wish.extra_hosts:
            etc_files.extra_host(text, self._endpoints.host_gateway() or "0.0.0.0")
        for server in wish.dns:
            _check_address(server, "DNS server")
        if wish.mode.startswith(CONTAINER):
            check_mode(wish)
        check_several(wish)
        if wish.network == HOST and wish.port_bindings:
            return ["Published ports are discarded when using host network mode"]
        return []

    def settings_at_rest(self, wish: Wish) -> NetworkSettings:
        """Return what inspect shows for a container that does not run."""
        shown: dict[str, EndpointSettings] = {}
        for reference in dict.fromkeys([wish.network, *wish.endpoints]):
            if reference in ("", "default"):
                continue
            try:
                row = self._find(reference)
            except SampanError:
                shown[reference] = wish.endpoints.get(reference) or EndpointSettings()
            else:
                shown[row.network.name] = at_rest(row, wish)
        return NetworkSettings(networks=shown)

    async def connect(self, wish: Wish, given: Fd | None = None) -> Connection:
        """Give a container that starts its namespace, addresses and published ports, or raise.

        The caller owns `namespace`, which is a duplicate of the fresh one that is `given`, if any:
        that of a user namespace. Raises NotFound ("network foo not found") and Internal with
        Docker's sentence ("driver failed programming external connectivity on endpoint …").
        """
        rows: list[NetworkRow] = []
        if wish.network:
            names = dict.fromkeys([wish.network, *wish.endpoints])
            for name in names:
                row = self._find(BRIDGE if name == "default" else name)
                if row not in rows and not (wish.disabled and rows):
                    rows.append(row)
        for row in rows:
            network_configs.check_endpoint(row.network)
            if row.network.id in self._down:
                await self._bring_up(row)
        return await self._endpoints.connect(wish, rows, given)

    async def disconnect(self, container_id: str) -> None:
        """Take back all that `connect` gave, and what was plugged; unknown ids are no error."""
        try:
            await self.plugs.end(container_id)
        finally:
            await self._endpoints.disconnect(container_id)

    def settings(self, container_id: str) -> NetworkSettings | None:
        """Return what `connect` gave to a running container; None if it has nothing."""
        return self._endpoints.settings(container_id)

    async def rename(self, container_id: str, name: str) -> None:
        """Have a running container found by its new name."""
        await self._endpoints.rename(container_id, name)

    async def resume(self, container_id: str, namespace: Fd) -> None:
        """Have a container that ran before this engine find names; what it has stays."""
        await self._endpoints.resume(container_id, namespace)

    def has_names(self, container_id: str) -> bool:
        """Tell whether a running container finds others by name."""
        return self._endpoints.has_names(container_id)

    async def join(
        self, wish: Wish, reference: str, wanted: EndpointSettings | None, namespace: Fd
    ) -> list[etc_files.Edit]:
        """Connect a running container with one more network; return how its files change."""
        row = self.check_joining(wish, reference, wanted)
        return await self._endpoints.join(wish, row, wanted, namespace)

    async def link(self, container_id: str, peers: list[Peer]) -> None:
        """Let a running container reach these ports where its network keeps containers apart."""
        await self._endpoints.link(container_id, peers)

    def relink(self, container_id: str, line: str) -> list[etc_files.Edit]:
        """Note where a link of a running container leads now; return how its files change."""
        return self._endpoints.relink(container_id, line)

    async def publish(
        self, container_id: str, add: ports.Bindings, remove: Collection[ports.Unwanted]
    ) -> None:
        """Publish more ports of a running container, and take others back.

        All of `add` or nothing: Conflict if a port is taken. `remove` comes first.
        """
        await self._endpoints.publish(container_id, add, remove)

    def check_joining(
        self, wish: Wish, reference: str, wanted: EndpointSettings | None
    ) -> NetworkRow:
        """Check whether a container, running or not, may be connected with one more network."""
        row = self._find(reference)
        network_configs.check_endpoint(row.network)
        check_settings(row.network.name, wanted)
        check_joining(row.network.name, wish)
        check_address(row, wanted)
        return row

    async def leave(self, container_id: str, reference: str, namespace: Fd) -> list[etc_files.Edit]:
        """Take a running container off one network; return how its files change."""
        return await self._endpoints.leave(container_id, self._find(reference), namespace)

    # --- networks ----------------------------------------------------------------------------

    async def list(self, filters: Filters) -> list[Network]:
        """Return the networks that `docker network ls` shows."""
        wanted = Filter(filters, _LIST_FILTERS)
        for value in wanted.values("type"):
            if value not in ("builtin", "custom"):
                raise InvalidArgument(f"invalid filter: 'type'='{value}'")
        return [self._show(row) for row in self._rows.values() if self._matches(row, wanted)]

    def _matches(self, row: NetworkRow, wanted: Filter) -> bool:
        network = row.network
        dangling = wanted.boolean("dangling")
        if dangling is not None:
            is_unused = network.name not in PREDEFINED and not self._in_use(row)
            if dangling != is_unused:
                return False
        kind = "builtin" if network.name in PREDEFINED else "custom"
        return (
            wanted.one_of("driver", network.driver)
            and wanted.matching("name", network.name)
            and wanted.matching("id", network.id)
            and wanted.one_of("scope", network.scope)
            and wanted.one_of("type", kind)
            and wanted.labels(network.labels)
        )

    async def inspect(self, reference: str, *, scope: str = "") -> Network:
        """Return one network with its running containers; by name, id or prefix of an id."""
        row = self._find(reference)
        if scope and scope != row.network.scope:
            raise NotFound(f"network {reference} not found")
        return self._show(row)

    async def create(self, request: NetworkCreateRequest) -> NetworkCreateResponse:
        """Make a network of the user's."""
        check_request(request)
        async with self._changes:
            if self._named(request.name):
                raise Conflict(f"network with name {request.name} already exists")
            if request.config_only:
                row = network_configs.configuration(request)
                await self._add(row)
                self._tell("create", row)
                return NetworkCreateResponse(id=row.network.id)
            request = network_configs.configured(request, self._rows.values())
            check_request(request, is_complete=True)
            ranges = [await self._subnet(request)]
            if request.enable_ipv6:
                ranges.append(self._subnet6(request))
            row = row_of(request, ranges)
            await blocking(self._table.save, row)
            try:
                await self._bring_up(row)
            except BaseException:
                await blocking(self._table.delete, row.network.id)
                await blocking(self._plumber.remove_network, row.network.id)
                raise
            self._rows[row.network.id] = row
            self._endpoints.open(row)
        self._tell("create", row)
        return NetworkCreateResponse(id=row.network.id)

    async def _subnet(self, request: NetworkCreateRequest) -> IPAMConfig:
        """Return the address range of a new network, checked against those that exist."""
        taken = [row.subnet for row in self._rows.values() if row.interface]
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
        pools = ipam.subnets(self._options.default_address_pools)
        return IPAMConfig(subnet=await self._free_subnet(pools, [str(one) for one in taken]))

    def _subnet6(self, request: NetworkCreateRequest) -> IPAMConfig:
        """Return the range of IPv6 of a new network: the user's, or a free one of our own."""
        taken = [row.subnet6 for row in self._rows.values() if row.interface and row.subnet6]
        for config in (request.ipam or IPAM()).config or []:
            if family_of(config.subnet) == 6:
                if any(IPv6Network(config.subnet).overlaps(other) for other in taken):
                    raise Forbidden(_OVERLAP)
                return config
        return IPAMConfig(subnet=str(ipam.unique_local(self._seed, taken)))

    async def remove(self, reference: str) -> str:
        """Remove a network that no container uses, and return its id."""
        async with self._changes:
            row = self._find(reference)
            name = row.network.name
            if name in PREDEFINED:
                raise Forbidden(f"{name} is a pre-defined network and cannot be removed")
            if used := self._endpoints.resources(row.network.id):
                who = ", ".join(
                    f'name:"{it.name}" id:"{it.endpoint_id[:12]}"' for it in used.values()
                )
                raise Forbidden(
                    f"error while removing network: network {name} has active endpoints ({who})"
                )
            network_configs.check_unused(row.network, self._rows.values())
            self._down.add(row.network.id)  # if this fails, nobody knows how far it came
            try:
                await blocking(self._plumber.remove_network, row.network.id)
            except Unavailable:  # the helper was killed: its successor does the rest
                await blocking(self._plumber.remove_network, row.network.id)
            await blocking(self._table.delete, row.network.id)
            self._down.discard(row.network.id)
            del self._rows[row.network.id]
            self._endpoints.shut(row)
        self._tell("destroy", row)
        return row.network.id

    async def prune(self, filters: Filters) -> NetworksPruneReport:
        """Remove all user-defined networks that no container uses."""
        wanted = Filter(filters, _PRUNE_FILTERS)
        until = _until(wanted)
        deleted = []
        for row in list(self._rows.values()):
            network = row.network
            if network.name in PREDEFINED or network.config_only or self._in_use(row):
                continue
            if not wanted.labels(network.labels) or not wanted.without_labels(network.labels):
                continue
            if until and network.created > until:
                continue
            await self.remove(network.id)
            deleted.append(network.name)
        return NetworksPruneReport(networks_deleted=deleted or None)

    # --- finding and showing -----------------------------------------------------------------

    def _named(self, name: str) -> NetworkRow | None:
        return next((row for row in self._rows.values() if row.network.name == name), None)

    def _on(self, interface: str) -> NetworkRow | None:
        """Return the network on an interface of the host."""
        rows = self._rows.values()
        return next((row for row in rows if interface and row.interface == interface), None)

    def _find(self, reference: str) -> NetworkRow:
        """Return a network by id, name or prefix of an id, in this order."""
        if found := self._rows.get(reference) or self._named(reference):
            return found
        prefixed = [row for known, row in self._rows.items() if known.startswith(reference)]
        if len(prefixed) == 1 and reference:
            return prefixed[0]
        if len(prefixed) > 1 and reference:
            raise InvalidArgument(
                f"network {reference} is ambiguous ({len(prefixed)} matches found based on ID "
                "prefix)"
            )
        raise NotFound(f"network {reference} not found")

    def _in_use(self, row: NetworkRow) -> bool:
        return bool(self._endpoints.resources(row.network.id))

    def _show(self, row: NetworkRow) -> Network:
        shown = {name: getattr(row.network, name) for name in Network.__struct_fields__}
        return Network(**{**shown, "containers": self._endpoints.resources(row.network.id)})

    def _tell(self, action: str, row: NetworkRow) -> None:
        network = row.network
        self._emit(action, network.id, {"name": network.name, "type": network.driver})


def _is_other(other: NetworkRow, row: NetworkRow | None) -> bool:
    return bool(other.interface) and other is not row


def _check_address(text: str, what: str) -> None:
    try:
        ip_address(text)
    except ValueError as error:
        raise InvalidArgument(f"bad format for {what}: {text}") from error


def _until(wanted: Filter) -> str:
    """Return the time of the filter `until` as timestamps are written, "" without one."""
    values = wanted.values("until")
    if not values:
        return ""
    if len(values) > 1:
        raise InvalidArgument("more than one until filter specified")
    text = values[0]
    units = {"s": 1, "m": 60, "h": 3600}
    if match := re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        ago = hours * units["h"] + minutes * units["m"] + seconds
        return timestamp(time.time_ns() - ago * 10**9)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return timestamp(int(float(text) * 10**9))
    if re.match(r"\d{4}-\d\d-\d\d", text):
        return text
    raise InvalidArgument(f"failed to parse until filter: {text!r}")
