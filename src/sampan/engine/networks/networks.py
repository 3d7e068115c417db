"""Networks: the three that are always there, bridges of users, and what containers get of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from sampan.engine.blocking import blocking
from sampan.engine.database import Database
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
from sampan.engine.networks.listing import listed
from sampan.engine.networks.model import (
    BRIDGE,
    CONTAINER,
    HOST,
    NONE,
    Connection,
    Emit,
    NetworkOptions,
    Wish,
)
from sampan.engine.networks.plugs import Plugs
from sampan.engine.networks.requests import predefined
from sampan.engine.networks.store import NetworkStore
from sampan.engine.networks.user_networks import UserNetworks
from sampan.errors import (
    InvalidArgument,
    NotFound,
    SampanError,
)
from sampan.network import ports
from sampan.network.plumber import Peer, Plumber
from sampan.rpc import Fd
from sampan.spec.addresses import is_address
from sampan.spec.docker.networks import (
    EndpointSettings,
    Network,
    NetworkCreateRequest,
    NetworkCreateResponse,
    NetworkSettings,
    NetworksPruneReport,
)

__all__ = ["Connection", "Emit", "NetworkOptions", "Networks", "Wish"]

log = logging.getLogger(__name__)


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
        self._plumber = plumber
        self._options = options or NetworkOptions()
        self._endpoints = Endpoints(plumber, self._options, emit)
        table = NetworkDatabase(database)
        self._store = NetworkStore(table, plumber, self._options, self._endpoints)
        self._of_users = UserNetworks(self._store, emit)
        self.plugs = Plugs(plumber, self._endpoints.addressing, self._store.on)
        self.warnings: list[str] = []

    # --- the engine's start ------------------------------------------------------------------

    async def start(self, running: Collection[Wish]) -> None:
        """Make or repair what must be there; `running` is what the running containers asked for.

        A bridge that cannot be made is a warning: what needs no bridge works.
        """
        rows = await blocking(self._store.table.all)
        self._store.rows = {row.network.id: row for row in rows}
        for name in (HOST, NONE):
            if not self._store.named(name):
                await self._store.add(NetworkRow(network=predefined(name, "null")))
        await self._prepare_default_bridge()
        for row in list(self._store.rows.values()):
            if row.interface:
                self._endpoints.open(row)
                try:
                    await self._store.bring_up(row)
                except SampanError as error:
                    self._store.down.add(row.network.id)
                    self._warn(f"the network {row.network.name} cannot be used: {error}")
        made = await blocking(self._plumber.endpoints)
        kept = self._endpoints.adopt(running, list(self._store.rows.values()), made)
        plugged = await blocking(self._plumber.plugs)
        kept += self.plugs.adopt(plugged, {wish.container_id for wish in running})
        bridges = [row.network.id for row in self._store.rows.values() if row.interface]
        await blocking(self._plumber.reconcile, kept, bridges)

    async def _prepare_default_bridge(self) -> None:
        """Have a row of the default bridge that follows the options, or none."""
        options, row = self._options, self._store.named(BRIDGE)
        if options.bridge == NONE:
            if row:
                del self._store.rows[row.network.id]
            return
        taken = [str(other.subnet) for other in self._store.rows.values() if _is_other(other, row)]
        made = await default_bridge.plan(
            options, self._plumber, row, taken, self._store.seed, self._warn
        )
        await self._store.add(made)

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
                row = self._store.find(reference)
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
                row = self._store.find(BRIDGE if name == "default" else name)
                if row not in rows and not (wish.disabled and rows):
                    rows.append(row)
        for row in rows:
            network_configs.check_endpoint(row.network)
            if row.network.id in self._store.down:
                await self._store.bring_up(row)
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
        row = self._store.find(reference)
        network_configs.check_endpoint(row.network)
        check_settings(row.network.name, wanted)
        check_joining(row.network.name, wish)
        check_address(row, wanted)
        return row

    async def leave(self, container_id: str, reference: str, namespace: Fd) -> list[etc_files.Edit]:
        """Take a running container off one network; return how its files change."""
        return await self._endpoints.leave(container_id, self._store.find(reference), namespace)

    # --- networks ----------------------------------------------------------------------------

    async def list(self, wanted: Mapping[str, Sequence[str]]) -> Sequence[Network]:
        """Return the networks that `docker network ls` shows."""
        return listed(self._store, wanted)

    async def inspect(self, reference: str, *, scope: str = "") -> Network:
        """Return one network with its running containers; by name, id or prefix of an id."""
        row = self._store.find(reference)
        if scope and scope != row.network.scope:
            raise NotFound(f"network {reference} not found")
        return self._store.show(row)

    async def create(self, request: NetworkCreateRequest) -> NetworkCreateResponse:
        """Make a network of the user's."""
        return await self._of_users.create(request)

    async def remove(self, reference: str) -> str:
        """Remove a network that no container uses, and return its id."""
        return await self._of_users.remove(reference)

    async def prune(self, wanted: Mapping[str, Sequence[str]]) -> NetworksPruneReport:
        """Remove all user-defined networks that no container uses."""
        return await self._of_users.prune(wanted)


def _is_other(other: NetworkRow, row: NetworkRow | None) -> bool:
    return bool(other.interface) and other is not row


def _check_address(text: str, what: str) -> None:
    if not is_address(text):
        raise InvalidArgument(f"bad format for {what}: {text}")
