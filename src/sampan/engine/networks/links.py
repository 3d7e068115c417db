"""Links (`--link NAME:ALIAS`): names, and variables, by which a container finds others.

A record keeps a link as ID:ALIAS, so that it outlives a rename; inspect shows it by names.
Source: moby daemon/links, daemon_unix.go (registerLinks), container_operations.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sampan.engine.containers.container import Container, Record
from sampan.engine.containers.lookup import Table
from sampan.engine.networks.networks import Networks
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.network.plumber import Peer
from sampan.network.ports import parse_ports

_UNDEFINED = [
    f"type {what} can't be used with links. This would result in undefined behavior"
    for what in ("network", "networking")
]


class Links:
    """The links of all containers."""

    def __init__(self, table: Table, networks: Networks) -> None:
        self._table, self._networks = table, networks

    def settle(self, record: Record) -> None:
        """Check the links of a container that is made, and note whom they mean.

        Raises InvalidArgument, also for a container that is not there: the docker CLI would take
        NotFound for a missing image.
        """
        host = record.host_config
        settled = []
        for text in host.links or ():
            name, alias = parse_link(text)
            if host.network_mode == "host":
                raise InvalidArgument(f"conflicting options: host {_UNDEFINED[1]}")
            if host.network_mode.startswith("container:"):
                raise InvalidArgument(f"conflicting options: container {_UNDEFINED[0]}")
            try:
                settled.append(f"{self._table.find(name).id}:{alias}")
            except NotFound as error:
                raise InvalidArgument(f"could not get container for {name}: {error}") from error
        if settled:
            host.links = settled

    def of(self, record: Record) -> Iterator[tuple[Container, str]]:
        """Yield the containers that are still there, with the alias."""
        for text in record.host_config.links or ():
            target, alias = parse_link(text)
            if found := self._table.get(target):
                yield found, alias

    def shown(self, record: Record) -> list[str] | None:
        """Return the links as inspect shows them; None for none."""
        return [f"/{each.name}:/{record.name}/{alias}" for each, alias in self.of(record)] or None

    def names(self) -> dict[str, list[str]]:
        """Return the names that links give, by id of the container that has them."""
        found: dict[str, list[str]] = {}
        for container in self._table:
            if container.host_config.links:
                for each, alias in self.of(container.record):
                    found.setdefault(each.id, []).append(f"/{container.name}/{alias}")
        return found

    def hosts(self, record: Record) -> list[str]:
        """Return lines for /etc/hosts as "names:address"; raises Conflict if one does not run."""
        found = []
        for each, alias in self.of(record):
            if not each.running:
                raise Conflict(
                    f"Cannot link to a non running container: /{each.name} AS"
                    f" /{record.name}/{alias}"
                )
            line = self._line(record, each, alias)
            if not line:
                raise Conflict(
                    f"Cannot link to {each.name}, as it does not belong to the default network"
                )
            found.append(line)
        return found

    def peers(self, record: Record) -> list[Peer]:
        """Return the exposed ports of those that run, which it may reach also under --icc=false."""
        found = []
        for each, _ in self.of(record):
            address = self._address(each, record.host_config.network_mode)
            if not each.running or not address:
                continue
            texts = {*(each.config.exposed_ports or ()), *(each.host_config.port_bindings or ())}
            ports = sorted({port for text in texts for port in parse_ports(text)})
            found += [
                Peer(address=address, protocol=port.protocol, port=port.number) for port in ports
            ]
        return found

    def to(self, target: Container) -> Iterator[tuple[Container, str]]:
        """Yield running containers that have links to one that runs, each with its line."""
        for container in self._table:
            if not container.running or not container.host_config.links:
                continue
            for each, alias in self.of(container.record):
                if each is target and (line := self._line(container.record, each, alias)):
                    yield container, line

    def _line(self, record: Record, each: Container, alias: str) -> str:
        """Return names and address; "" if it is not on the network of the record's mode."""
        address = self._address(each, record.host_config.network_mode)
        names = dict.fromkeys([alias, each.config.hostname, each.name])
        return f"{' '.join(names)}:{address}" if address else ""

    def environment(self, record: Record) -> list[str]:
        """Return the variables that tell of links, on the default network only."""
        if record.host_config.network_mode not in ("", "default", "bridge"):
            return []
        found: list[str] = []
        for each, alias in self.of(record):
            address = self._address(each, "bridge")
            name = f"/{record.name}/{alias}"
            found += variables(
                name, address, each.config.env or (), list(each.config.exposed_ports or ())
            )
        return found

    def _address(self, container: Container, network: str) -> str:
        settings = self._networks.settings(container.id)
        name = "bridge" if network in ("", "default") else network
        endpoint = settings.networks.get(name) if settings else None
        return endpoint.ip_address if endpoint else ""


def parse_link(text: str) -> tuple[str, str]:
    """Return name and alias of "name:alias", "name", or what inspect shows; InvalidArgument."""
    parts = text.split(":")
    if not text or len(parts) > 2 or not parts[0]:
        raise InvalidArgument(f"bad format for links: {text}" if text else "empty string for links")
    name = parts[0].removeprefix("/")
    alias = parts[1] if len(parts) == 2 else name
    return name, alias.rpartition("/")[2]


def variables(
    name: str, address: str, environment: Sequence[str], ports: Sequence[str]
) -> list[str]:
    """Return the variables of one link; `name` is /parent/alias, ports are "80/tcp"."""
    alias = name.rpartition("/")[2].upper().replace("-", "_")
    parts = [each.partition("/") for each in ports]
    split = sorted(
        ((kind or "tcp", int(number)) for number, _, kind in parts),
        key=lambda it: (it[0] != "tcp", it),
    )
    found = []
    for place, (kind, number) in enumerate(split):
        url, prefix = f"{kind}://{address}:{number}", f"{alias}_PORT_{number}_{kind.upper()}"
        found += [f"{alias}_PORT={url}"] if not place else []
        found += [f"{prefix}={url}", f"{prefix}_ADDR={address}", f"{prefix}_PORT={number}"]
        found.append(f"{prefix}_PROTO={kind}")
    found.append(f"{alias}_NAME={name}")
    for item in environment:
        key, equals, value = item.partition("=")
        if equals and key not in ("HOME", "PATH"):
            found.append(f"{alias}_ENV_{key}={value}")
    return found
