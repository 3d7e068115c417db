"""Containers on networks: who has which endpoints, and their comings and goings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypeVar

from sampan.engine.blocking import blocking
from sampan.engine.networks.addressing import Addressing, free_number
from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.endpoint_documents import files, shown
from sampan.engine.networks.endpoint_settings import (
    bare,
    check_address,
    dns_names,
    priority,
    settings_of,
    wanted_of,
)
from sampan.engine.networks.etc_files import Edit, edits
from sampan.engine.networks.held import Held, Plugged, fits, has_names
from sampan.engine.networks.model import (
    CONTAINER,
    HOST,
    NONE,
    Connection,
    Emit,
    NetworkOptions,
    Wish,
)
from sampan.engine.networks.sandboxes import FAILED, Sandboxes
from sampan.engine.undisturbed import to_the_end
from sampan.errors import (
    Conflict,
    Forbidden,
    Internal,
    SampanError,
)
from sampan.network import ports
from sampan.network.plumber import (
    Endpoint,
    EndpointSpec,
    Peer,
    Plumber,
    PortMapping,
)
from sampan.rpc import Fd
from sampan.spec.docker.networks import EndpointResource, EndpointSettings, NetworkSettings
from sampan.spec.names import new_id

T = TypeVar("T")


class Endpoints:
    """The endpoints of running containers. `emit` takes connect and disconnect events."""

    def __init__(self, plumber: Plumber, options: NetworkOptions, emit: Emit) -> None:
        self._plumber, self._options, self._emit = plumber, options, emit
        self.addressing = self._addressing = Addressing()
        self._held: dict[str, Held] = {}
        self._sandboxes = Sandboxes(plumber, options)

    # --- networks come and go ----------------------------------------------------------------

    def open(self, row: NetworkRow) -> None:
        """Begin to give out addresses of a network."""
        self._addressing.open(row)

    def shut(self, row: NetworkRow) -> None:
        """Give out no more addresses of a network."""
        self._addressing.shut(row)

    def resources(self, network_id: str) -> dict[str, EndpointResource]:
        """Return the running containers of a network, by container id."""
        found = {}
        for container_id, held in self._held.items():
            for plugged in held.plugged:
                if plugged.row.network.id == network_id:
                    shown = plugged.settings
                    found[container_id] = EndpointResource(
                        name=held.wish.name,
                        endpoint_id=shown.endpoint_id,
                        mac_address=shown.mac_address,
                        ipv4_address=plugged.spec.address if plugged.spec else "",
                        ipv6_address=plugged.spec.address6 if plugged.spec else "",
                    )
        return found

    # --- containers come and go --------------------------------------------------------------

    def adopt(
        self, wishes: Collection[Wish], rows: Sequence[NetworkRow], made: Sequence[Endpoint]
    ) -> list[str]:
        """Take over the endpoints of running containers; return the ids of those that stay."""
        networks = {row.network.id: row for row in rows}
        names = {row.network.name: row for row in rows}
        by_container: dict[str, list[Endpoint]] = {}
        for endpoint in made:
            by_container.setdefault(endpoint.endpoint.container_id, []).append(endpoint)
        kept = []
        for wish in wishes:
            held = Held(wish, [])
            if wish.network in (HOST, NONE):
                row = names[wish.network]
                held.plugged.append(Plugged(row, bare(row, new_id())))
            for endpoint in by_container.get(wish.container_id, []):
                spec = endpoint.endpoint
                if row_of := networks.get(spec.network_id):
                    self._addressing.adopt(spec)
                    settings = settings_of(row_of, spec, wish)
                    held.plugged.append(Plugged(row_of, settings, spec, endpoint.ports))
                    kept.append(spec.endpoint_id)
            self._held[wish.container_id] = held
        return kept

    async def resume(self, container_id: str, namespace: Fd) -> None:
        """Have a container that runs on find names, whatever became of the resolver meanwhile."""
        if held := self._held.get(container_id):
            await blocking(self._sandboxes.resolve, held.wish, held.plugged, namespace)

    def has_names(self, container_id: str) -> bool:
        """Tell whether a running container finds others by name."""
        held = self._held.get(container_id)
        return bool(held and has_names(held.plugged))

    async def rename(self, container_id: str, name: str) -> None:
        """Have a running container found by its new name."""
        if not (held := self._held.get(container_id)):
            return
        wish = held.wish = replace(held.wish, name=name)
        for one in held.plugged:
            names = dns_names(one.row, wish, wanted_of(wish, one.row) or EndpointSettings())
            if one.spec and names:
                one.settings.dns_names = one.spec.names = names
                await blocking(self._plumber.rename, one.spec.endpoint_id, names)

    async def connect(
        self, wish: Wish, rows: Sequence[NetworkRow], given: Fd | None = None
    ) -> Connection:
        """Connect a container with `rows`, the network of its mode first.

        `given` is a fresh namespace that is to be used.
        """
        if wish.container_id in self._held:
            await self.disconnect(wish.container_id)
        if wish.mode.startswith(CONTAINER) and not wish.disabled:
            self._held[wish.container_id] = Held(wish, [])
            return Connection(namespace=None, settings=shown(wish, []), files={})
        name = rows[0].network.name
        if name in (HOST, NONE):
            plugged = [Plugged(rows[0], bare(rows[0], new_id()))]
            namespace, etc = await to_the_end(blocking(self._bare, wish, plugged, given), _close)
        else:
            plugged, namespace, etc = await self._plug(wish, rows, given)
        self._held[wish.container_id] = Held(wish, plugged)
        for one in plugged:
            self._tell("connect", one, wish)
        return Connection(namespace=namespace, settings=shown(wish, plugged), files=etc)

    async def disconnect(self, container_id: str) -> None:
        """Take back all that a container has; unknown ids are no error."""
        if not (held := self._held.pop(container_id, None)):
            return
        specs = [plugged.spec for plugged in held.plugged if plugged.spec]
        try:
            await to_the_end(blocking(self._sandboxes.unplug, specs), lambda _: None)
        finally:
            for spec in specs:
                self._addressing.give_back(spec)
            for plugged in held.plugged:
                self._tell("disconnect", plugged, held.wish)

    async def join(
        self, wish: Wish, row: NetworkRow, wanted: EndpointSettings | None, namespace: Fd
    ) -> list[Edit]:
        """Connect a running container with one more network; return how its files change."""
        held = self._held.setdefault(wish.container_id, Held(wish, []))
        if any(plugged.row.network.id == row.network.id for plugged in held.plugged):
            name = row.network.name
            raise Forbidden(f"endpoint with name {wish.name} already exists in network {name}")
        before = self._files_of(held.wish, held.plugged)
        taken = {one.spec.interface: one for one in held.plugged if one.spec}
        number = free_number(taken, row.prefix)
        spec = self._addressing.spec(wish, row, wanted, number, is_gateway=False)
        plugged = Plugged(row, settings_of(row, spec, wish, wanted), spec)
        held.plugged.append(plugged)
        try:
            await blocking(self._sandboxes.join, held, spec, namespace)
        except BaseException:
            held.plugged.remove(plugged)
            self._addressing.give_back(spec)
            raise
        self._tell("connect", plugged, wish)
        return edits(before, self._files_of(held.wish, held.plugged))

    async def leave(self, container_id: str, row: NetworkRow, namespace: Fd) -> list[Edit]:
        """Take a running container off one network; return how its files change."""
        held = self._held.get(container_id)
        found = [one for one in held.plugged if one.row is row] if held else []
        if not held or not found:
            raise Forbidden(
                f"container {container_id} is not connected to network {row.network.name}"
            )
        before = self._files_of(held.wish, held.plugged)
        if spec := found[0].spec:  # as long as that fails, it is connected
            await blocking(self._plumber.detach, spec.endpoint_id, namespace)
            self._addressing.give_back(spec)
        held.plugged.remove(found[0])
        if found[0].spec:
            await blocking(self._sandboxes.reroute, held, namespace, found[0])
        self._tell("disconnect", found[0], held.wish)
        # It may have kept 127.0.0.11 in mind: the resolver answers as long as it is on a network.
        after = self._files_of(held.wish, held.plugged)
        return edits(before, {**after, "resolv.conf": before["resolv.conf"]})

    async def link(self, container_id: str, peers: list[Peer]) -> None:
        """Let a container reach ports of others where its network keeps containers apart."""
        held = self._held.get(container_id)
        for one in held.plugged if held else ():
            if one.spec and not one.row.inter_container:
                mine = [it for it in peers if IPv4Address(it.address) in one.row.subnet]
                await blocking(self._plumber.link, one.spec.endpoint_id, mine)

    def relink(self, container_id: str, line: str) -> list[Edit]:
        """Note another address of names that a link gives ("names:address").

        Returns how the container's files change.
        """
        if not (held := self._held.get(container_id)):
            return []
        before = self._files_of(held.wish, held.plugged)
        names = line.partition(":")[0]
        others = [it for it in held.wish.extra_hosts if it.partition(":")[0] != names]
        held.wish = replace(held.wish, extra_hosts=[*others, line])
        return edits(before, self._files_of(held.wish, held.plugged))

    async def publish(
        self, container_id: str, add: ports.Bindings, remove: Collection[ports.Unwanted]
    ) -> None:
        """Publish more ports of a running container, and take others back."""
        if not (held := self._held.get(container_id)):
            return
        able = [one for one in held.plugged if one.spec and one.spec.gateway and one.row.is_bridge]
        if not able or not able[0].spec:
            if add:
                raise Conflict(f"container {held.wish.name} is on no network that publishes ports")
            return
        plugged, endpoint_id = able[0], able[0].spec.endpoint_id
        gone = [it for it in plugged.ports if any(fits(one, it) for one in remove)]
        default = plugged.row.host_binding or self._options.default_ip
        routed = plugged.row.routed
        wanted = ports.mappings(add, default_address=default, routed=routed)
        if gone:
            await blocking(self._plumber.unpublish, endpoint_id, gone)
            plugged.ports = [it for it in plugged.ports if it not in gone]
        try:
            plugged.ports += await blocking(self._plumber.publish, endpoint_id, wanted)
        except SampanError:
            if gone:
                plugged.ports += await blocking(self._plumber.publish, endpoint_id, gone)
            raise
        bindings = ports.together(ports.without(held.wish.port_bindings, remove), add)
        held.wish = replace(held.wish, port_bindings=bindings)

    def settings(self, container_id: str) -> NetworkSettings | None:
        """Return what inspect shows of a running container."""
        held = self._held.get(container_id)
        return shown(held.wish, held.plugged) if held else None

    # --- making ------------------------------------------------------------------------------

    async def _plug(
        self, wish: Wish, rows: Sequence[NetworkRow], given: Fd | None
    ) -> tuple[list[Plugged], Fd, dict[str, bytes]]:
        wanted = {row.network.id: wanted_of(wish, row) for row in rows}
        ordered = sorted(rows, key=lambda row: priority(row, wanted[row.network.id]))
        plugged: list[Plugged] = []
        try:
            for number, row in enumerate(ordered):
                asked = wanted[row.network.id]
                spec = self._address(wish, row, asked, number)
                plugged.append(Plugged(row, settings_of(row, spec, wish, asked), spec))
            mappings = self._sandboxes.mappings(wish, plugged[0].row)
            specs = [one.spec for one in plugged if one.spec]
            made = blocking(self._make, wish, plugged, specs, mappings, given)
            namespace, published, etc = await to_the_end(
                made, lambda it: self._sandboxes.unmake(specs, it[0])
            )
        except BaseException:
            for one in plugged:
                if one.spec:
                    self._addressing.give_back(one.spec)
            raise
        plugged[0].ports = published
        return plugged, namespace, etc

    def _address(
        self, wish: Wish, row: NetworkRow, wanted: EndpointSettings | None, number: int
    ) -> EndpointSpec:
        check_address(row, wanted)
        is_gateway = not number and not row.internal
        try:
            return self._addressing.spec(wish, row, wanted, number, is_gateway=is_gateway)
        except (Forbidden, Internal) as error:
            raise type(error)(FAILED + str(error)) from error

    def _bare(
        self, wish: Wish, plugged: Sequence[Plugged], given: Fd | None
    ) -> tuple[Fd | None, dict[str, bytes]]:
        """Make what the modes host and none need; runs in a thread."""
        etc = self._files_of(wish, plugged)
        return self._sandboxes.bare(plugged, given), etc

    def _make(
        self,
        wish: Wish,
        plugged: Sequence[Plugged],
        specs: Sequence[EndpointSpec],
        mappings: list[PortMapping],
        given: Fd | None,
    ) -> tuple[Fd, list[PortMapping], dict[str, bytes]]:
        """Make all endpoints and publish on the first, or leave nothing; runs in a thread."""
        etc = self._files_of(wish, plugged)
        return *self._sandboxes.make(wish, plugged, specs, mappings, given), etc

    def _tell(self, action: str, plugged: Plugged, wish: Wish) -> None:
        network = plugged.row.network
        attributes = {
            "container": wish.container_id,
            "name": network.name,
            "type": network.driver,
        }
        self._emit(action, network.id, attributes)

    # --- showing -----------------------------------------------------------------------------

    def _files_of(self, wish: Wish, plugged: Sequence[Plugged]) -> dict[str, bytes]:
        return files(self._options, self.host_gateway(), wish, plugged)

    def host_gateway(self) -> str:
        """Return the address that `host-gateway` stands for; "" if there is none."""
        return self._options.host_gateway_ip or self.default_gateway

    default_gateway = ""  # of the default bridge, set when that is up


def _close(made: tuple[Fd | None, dict[str, bytes]]) -> None:
    if made[0]:
        made[0].close()
