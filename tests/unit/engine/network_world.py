"""Networks on a plumber that makes nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sampan.engine.database import Database
from sampan.engine.networks.networks import NetworkOptions, Networks, Wish
from sampan.errors import (
    SampanError,
    Unavailable,
)
from sampan.network.plumber import (
    Endpoint,
    EndpointSpec,
    NetworkSpec,
    Peer,
    PlugSpec,
    PortMapping,
    ResolverSpec,
    ToPeer,
)
from sampan.rpc import Fd
from sampan.spec.docker.networks import (
    IPAM,
    IPAMConfig,
    NetworkCreateRequest,
)

T = TypeVar("T")
CONTAINER = "c" * 64


@dataclass
class FakePlumber:
    """Remembers what it was asked to make; `refuses` is raised by publish."""

    bridges: dict[str, NetworkSpec] = field(default_factory=dict)
    made: dict[str, Endpoint] = field(default_factory=dict)
    resolvers: dict[str, ResolverSpec] = field(default_factory=dict)
    plugged: dict[str, PlugSpec] = field(default_factory=dict)
    refuses: SampanError | None = None
    is_gone: bool = False
    used: tuple[str, ...] = ()
    foreign: dict[str, list[str]] = field(default_factory=dict)

    def ensure_network(self, network: NetworkSpec) -> None:
        self.bridges[network.network_id] = network

    def remove_network(self, network_id: str) -> None:
        self.bridges.pop(network_id, None)

    def free_subnet(self, pools: list[str], taken: list[str], own: str = "") -> str:
        return next(pool for pool in pools if pool not in (*taken, *self.used))

    def foreign_bridge(self, name: str) -> list[str] | None:
        return self.foreign.get(name)

    def sandbox(self) -> Fd:
        return Fd(os.open("/dev/null", os.O_RDONLY))

    def attach(self, endpoint: EndpointSpec, sandbox: Fd | None = None) -> Fd:
        self.made[endpoint.endpoint_id] = Endpoint(endpoint=endpoint)
        return self.sandbox()

    def detach(self, endpoint_id: str, sandbox: Fd | None = None) -> None:
        if self.is_gone:
            raise Unavailable("the privileged helper is gone")
        self.made.pop(endpoint_id, None)

    def endpoints(self) -> list[Endpoint]:
        return list(self.made.values())

    def publish(self, endpoint_id: str, ports: list[PortMapping]) -> list[PortMapping]:
        if self.refuses:
            raise self.refuses
        for port in ports:
            port.host_port = port.host_port or 32768
        self.made[endpoint_id].ports = ports
        return ports

    def unpublish(self, endpoint_id: str, ports: list[PortMapping]) -> None:
        made = self.made[endpoint_id]
        made.ports = [port for port in made.ports if port not in ports]

    def link(self, endpoint_id: str, peers: list[Peer]) -> None:
        self.made[endpoint_id].peers = peers

    def route(self, endpoint_id: str, gateway: str, gateway6: str, sandbox: Fd) -> None:
        endpoint = self.made[endpoint_id].endpoint
        endpoint.gateway, endpoint.gateway6 = gateway, gateway6

    def resolve(self, resolver: ResolverSpec, sandbox: Fd) -> None:
        self.resolvers[resolver.container_id] = resolver

    def rename(self, endpoint_id: str, names: list[str]) -> None:
        self.made[endpoint_id].endpoint.names = names

    def plug(self, plug: PlugSpec, sandbox: Fd, peer: Fd | None = None) -> PlugSpec:
        if self.refuses:
            raise self.refuses
        plug.end.interface = plug.end.interface or "eth1"
        if isinstance(plug.into, ToPeer):
            plug.into.end.interface = plug.into.end.interface or "eth1"
        self.plugged[plug.plug_id] = plug
        return plug

    def unplug(self, plug_id: str, sandbox: Fd | None = None, peer: Fd | None = None) -> None:
        self.plugged.pop(plug_id, None)

    def plugs(self) -> list[PlugSpec]:
        return list(self.plugged.values())

    def reconcile(self, endpoint_ids: list[str], network_ids: list[str] | None = None) -> None:
        self.bridges = {key: self.bridges[key] for key in network_ids or self.bridges}
        self.made = {key: value for key, value in self.made.items() if key in endpoint_ids}
        self.plugged = {key: it for key, it in self.plugged.items() if key in endpoint_ids}


@dataclass
class World:
    networks: Networks
    plumber: FakePlumber
    database: Database
    events: list[tuple[str, str]]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def again(self, *running: Wish, options: NetworkOptions | None = None) -> Networks:
        """Return the networks of a daemon that was started anew."""
        self.networks = Networks(self.database, self.plumber, options)
        self.run(self.networks.start(running))
        return self.networks


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database(tmp_path / "database.sqlite")
    plumber, events = FakePlumber(), []

    def emit(action: str, network_id: str, attributes: Mapping[str, str]) -> None:
        events.append((action, attributes["name"]))

    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    options = NetworkOptions(resolv_conf=str(tmp_path / "resolv.conf"))
    networks = Networks(database, plumber, options, emit)
    asyncio.run(networks.start([]))
    yield World(networks, plumber, database, events)
    database.close()


def wish(**more: Any) -> Wish:
    return Wish(**{"container_id": CONTAINER, "name": "web", "hostname": "web", **more})


def names(world: World, **filters: list[str]) -> list[str]:
    return [network.name for network in world.run(world.networks.list(filters))]


def connect(world: World, asked: Wish) -> Any:
    connection = world.run(world.networks.connect(asked))
    if connection.namespace:
        connection.namespace.close()
    return connection


def create(world: World, name: str, subnet: str = "", **more: Any) -> str:
    config = [IPAMConfig(subnet=subnet)] if subnet else None
    request = NetworkCreateRequest(**{"name": name, "ipam": IPAM(config=config), **more})
    return world.run(world.networks.create(request)).id
