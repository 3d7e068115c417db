"""The networks that there are: found by name, brought up, and shown.

Their rows are in memory and in the database; their bridges are the plumber's.
"""

from __future__ import annotations

from sampan.engine.blocking import blocking
from sampan.engine.networks.database import NetworkDatabase, NetworkRow
from sampan.engine.networks.endpoints import Endpoints
from sampan.engine.networks.model import BRIDGE, HOST, NetworkOptions
from sampan.engine.networks.specs import spec_of
from sampan.errors import InvalidArgument, NotFound
from sampan.network.plumber import Plumber
from sampan.spec.docker.networks import Network


class NetworkStore:
    """What all parts of `Networks` share; belongs to one event loop."""

    def __init__(
        self,
        table: NetworkDatabase,
        plumber: Plumber,
        options: NetworkOptions,
        endpoints: Endpoints,
    ) -> None:
        self.table, self.plumber = table, plumber
        self.options, self.endpoints = options, endpoints
        self.rows: dict[str, NetworkRow] = {}
        self.down: set[str] = set()  # networks whose bridge could not be made

    @property
    def seed(self) -> str:
        """Return what is this engine's own, as long as its database lives."""
        return next(row.network.id for row in self.rows.values() if row.network.name == HOST)

    # --- reading -----------------------------------------------------------------------------

    def named(self, name: str) -> NetworkRow | None:
        """Return the network of exactly this name."""
        return next((row for row in self.rows.values() if row.network.name == name), None)

    def on(self, interface: str) -> NetworkRow | None:
        """Return the network on an interface of the host."""
        rows = self.rows.values()
        return next((row for row in rows if interface and row.interface == interface), None)

    def find(self, reference: str) -> NetworkRow:
        """Return a network by id, name or prefix of an id, in this order."""
        if found := self.rows.get(reference) or self.named(reference):
            return found
        prefixed = [row for known, row in self.rows.items() if known.startswith(reference)]
        if len(prefixed) == 1 and reference:
            return prefixed[0]
        if len(prefixed) > 1 and reference:
            raise InvalidArgument(
                f"network {reference} is ambiguous ({len(prefixed)} matches found based on ID "
                "prefix)"
            )
        raise NotFound(f"network {reference} not found")

    def in_use(self, row: NetworkRow) -> bool:
        """Tell whether a running container is on a network."""
        return bool(self.endpoints.resources(row.network.id))

    def show(self, row: NetworkRow) -> Network:
        """Return a network as clients see it, with its running containers."""
        shown = {name: getattr(row.network, name) for name in Network.__struct_fields__}
        return Network(**{**shown, "containers": self.endpoints.resources(row.network.id)})

    # --- changes -----------------------------------------------------------------------------

    async def add(self, row: NetworkRow) -> None:
        """Store a network."""
        await blocking(self.table.save, row)
        self.rows[row.network.id] = row

    async def bring_up(self, row: NetworkRow) -> None:
        """Have the bridge of a network, or its parent."""
        spec = spec_of(row, forwarding=self.options.ip_forward)
        await blocking(self.plumber.ensure_network, spec)
        self.down.discard(row.network.id)
        if row.network.name == BRIDGE:
            self.endpoints.default_gateway = str(row.gateway)

    async def free_subnet(self, pools: list[str], taken: list[str], own: str = "") -> str:
        """Return the first of `pools` that nothing on the host uses, nor `taken`."""
        return await blocking(self.plumber.free_subnet, pools, taken, own)
