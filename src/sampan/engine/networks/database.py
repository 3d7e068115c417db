"""The table of networks. Addresses of running containers are not in it: the plumber knows them."""

from __future__ import annotations

import sqlite3
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from sampan.engine.database import Database
from sampan.errors import Conflict
from sampan.network.plumber import GatewayMode
from sampan.spec.docker.networks import IPAMConfig, Network

SCHEMA = """
CREATE TABLE IF NOT EXISTS networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    document BLOB NOT NULL
)
"""


class NetworkRow(msgspec.Struct, kw_only=True):
    """A network as it is stored: what the API shows, and how it is made."""

    network: Network
    interface: str = ""  # of the bridge, or the parent; "" for host and none
    mtu: int = 0
    masquerade: bool = True
    inter_container: bool = True
    foreign: bool = False  # the bridge is the administrator's
    default_gateway: str = ""  # of containers, where it is not the bridge's own address
    default_gateway6: str = ""
    is_chosen: bool = True  # the user has named the subnet, and may name addresses in it
    prefix: str = "eth"  # of the interfaces' names
    mode: GatewayMode = "nat"
    mode6: GatewayMode = "nat"
    driver_mode: str = ""  # of macvlan and ipvlan
    driver_flag: str = ""  # of ipvlan
    host_binding: str = ""  # where ports without an address are published; "": the daemon's --ip

    @property
    def config(self) -> IPAMConfig:
        """Return the range of IPv4."""
        return next(it for it in self.network.ipam.config or [] if ":" not in it.subnet)

    @property
    def config6(self) -> IPAMConfig | None:
        """Return the range of IPv6; None on a network without."""
        if not self.network.enable_ipv6:
            return None
        return next((it for it in self.network.ipam.config or [] if ":" in it.subnet), None)

    @property
    def subnet(self) -> IPv4Network:
        """Return the address range."""
        return IPv4Network(self.config.subnet)

    @property
    def ip_range(self) -> IPv4Network | None:
        """Return the part of the range from which addresses are given out."""
        return IPv4Network(self.config.ip_range) if self.config.ip_range else None

    @property
    def is_bridge(self) -> bool:
        """Whether the host has a part in the network: the bridge, its gateway, published ports."""
        return self.network.driver == "bridge"

    @property
    def is_parentless(self) -> bool:
        """Whether it is a wire that ends in the host."""
        return self.interface == parentless_name(self.network.id)

    @property
    def internal(self) -> bool:
        """Whether nothing leaves the network."""
        return self.network.internal or self.is_parentless

    @property
    def is_l3(self) -> bool:
        """Whether the parent routes for the containers, which need no gateway."""
        return self.network.driver == "ipvlan" and self.driver_mode in ("l3", "l3s")

    @property
    def gateway(self) -> IPv4Address | None:
        """Return the gateway's address, on a bridge the bridge's own."""
        text = self.config.gateway.partition("/")[0]
        return IPv4Address(text) if text else None

    @property
    def subnet6(self) -> IPv6Network | None:
        """Return the range of IPv6 addresses."""
        return IPv6Network(self.config6.subnet) if self.config6 else None

    @property
    def routed(self) -> frozenset[int]:
        """Return the families (4, 6) whose ports have no port of the host."""
        modes = {4: self.mode, 6: self.mode6}
        return frozenset(family for family, mode in modes.items() if mode == "routed")

    @property
    def gateway6(self) -> IPv6Address | None:
        """Return the gateway's IPv6 address."""
        text = self.config6.gateway.partition("/")[0] if self.config6 else ""
        return IPv6Address(text) if text else None


def parentless_name(network_id: str) -> str:
    """Return what stands for the parent of a network that has none."""
    return f"dm-{network_id[:12]}"


class NetworkDatabase:
    """All networks, by id."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            connection.execute(SCHEMA)

    def all(self) -> list[NetworkRow]:
        """Return all networks in the order in which they were made."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT document FROM networks ORDER BY rowid").fetchall()
        return [msgspec.json.decode(document, type=NetworkRow) for (document,) in rows]

    def save(self, row: NetworkRow) -> None:
        """Insert or replace a network; Conflict if another one has the name."""
        network = row.network
        try:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO networks VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
                    " SET name = excluded.name, document = excluded.document",
                    (network.id, network.name, msgspec.json.encode(row)),
                )
        except sqlite3.IntegrityError as error:
            raise Conflict(f"network with name {network.name} already exists") from error

    def delete(self, id: str) -> None:
        """Forget a network."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM networks WHERE id = ?", (id,))
