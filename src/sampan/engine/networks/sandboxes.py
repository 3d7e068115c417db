"""Namespaces of containers with all their endpoints, made by the plumber as a whole or not at all.

All of it is called in threads: the plumber's calls wait for its helper.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.endpoint_settings import gateway6_of, gateway_of, priority
from sampan.engine.networks.held import Held, Plugged, has_names
from sampan.engine.networks.model import HOST, NetworkOptions, Wish
from sampan.errors import Internal, SampanError, Unavailable
from sampan.network import ports
from sampan.network.plumber import EndpointSpec, Plumber, PortMapping, ResolverSpec
from sampan.rpc import Fd

FAILED: Final = "failed to set up container networking: "


class Sandboxes:
    """Makes and changes the namespaces of containers."""

    def __init__(self, plumber: Plumber, options: NetworkOptions) -> None:
        self._plumber, self._options = plumber, options
        self._undetached: set[str] = set()  # endpoints whose helper was gone

    def bare(self, plugged: Sequence[Plugged], given: Fd | None) -> Fd | None:
        """Return what the modes host (nothing) and none need."""
        if bool(plugged) and plugged[0].row.network.name == HOST:
            return None
        return Fd(os.dup(given.number)) if given else self._plumber.sandbox()

    def make(
        self,
        wish: Wish,
        plugged: Sequence[Plugged],
        specs: Sequence[EndpointSpec],
        mappings: list[PortMapping],
        given: Fd | None = None,
    ) -> tuple[Fd, list[PortMapping]]:
        """Make all endpoints and publish on the first, or leave nothing.

        They are made in the namespace that is given, by default in a fresh one.
        """
        self.unplug(())
        first, *others = specs
        namespace = self._plumber.attach(first, given)
        try:
            for spec in others:
                self._plumber.attach(spec, namespace).close()
            self.resolve(wish, plugged, namespace)
            try:
                published = self._plumber.publish(first.endpoint_id, mappings) if mappings else []
            except SampanError as error:
                raise Internal(
                    f"{FAILED}driver failed programming external connectivity on endpoint "
                    f"{wish.name} ({first.endpoint_id}): {error}"
                ) from error
        except BaseException:
            self.unmake(specs, namespace)
            raise
        return namespace, published

    def join(self, held: Held, spec: EndpointSpec, namespace: Fd) -> None:
        """Make one more endpoint of a container that runs, which is among `held` already.

        If that fails, nothing of it is left; if even that fails, `unplug` sees to it later.
        """
        try:
            self._plumber.attach(spec, namespace).close()
            self.resolve(held.wish, held.plugged, namespace)
            self.reroute(held, namespace)
        except BaseException:
            self._undetached.add(spec.endpoint_id)
            with suppress(SampanError):
                self._plumber.detach(spec.endpoint_id, namespace)
                self._undetached.discard(spec.endpoint_id)
            raise

    def resolve(self, wish: Wish, plugged: Sequence[Plugged], namespace: Fd) -> None:
        """Have names found by a container that is on a user-defined network."""
        if not has_names(plugged):
            return
        links = [link for one in plugged for link in one.settings.links or ()]
        aliases = {alias: name for name, _, alias in (link.partition(":") for link in links)}
        servers = list(wish.dns or self._options.dns)
        spec = ResolverSpec(container_id=wish.container_id, servers=servers, aliases=aliases)
        self._plumber.resolve(spec, namespace)

    def unmake(self, specs: Sequence[EndpointSpec], namespace: Fd) -> None:
        """Take `make` back."""
        namespace.close()
        self.unplug(specs)

    def unplug(self, specs: Sequence[EndpointSpec]) -> None:
        """Detach endpoints; what a dying helper did not do is tried again with the next ones."""
        self._undetached |= {spec.endpoint_id for spec in specs}
        for endpoint_id in list(self._undetached):
            self._undetached.discard(endpoint_id)
            try:
                self._plumber.detach(endpoint_id)
            except Unavailable:
                self._undetached.add(endpoint_id)
                raise

    def reroute(self, held: Held, namespace: Fd, left: Plugged | None = None) -> None:
        """Have default route and published ports on the network that should have them.

        `left` is a network that the container has just left.
        """
        able = [one for one in held.plugged if one.spec and not one.row.internal]
        if not able:
            return
        best = min(able, key=lambda one: priority(one.row, one.settings))
        former = next((one for one in able if one.spec and one.spec.gateway), None)
        if best is former or not best.spec:
            return
        moved = list(left.ports) if left else []
        self._set_gateway(best, gateway_of(best.row), gateway6_of(best.row), namespace)
        if former and former.spec:
            self._set_gateway(former, "", "", namespace)
            self._plumber.unpublish(former.spec.endpoint_id, former.ports)
            moved, former.ports = former.ports, []
        origin = former.row if former else left.row if left else best.row
        if not origin.is_bridge and not any(one.ports for one in held.plugged):
            moved = self.mappings(held.wish, best.row)  # those that were ignored there
        elif moved and (best.row.routed or any(it.routed for it in moved)):
            moved = self.mappings(held.wish, best.row)
        if moved and best.row.is_bridge:
            best.ports = self._plumber.publish(best.spec.endpoint_id, moved)

    def mappings(self, wish: Wish, row: NetworkRow) -> list[PortMapping]:
        """Return what a container publishes where this network has its default route.

        That is nothing on a network that is no bridge: Docker ignores ports there.
        """
        if not row.is_bridge:
            return []
        return ports.mappings(
            wish.port_bindings,
            wish.exposed_ports,
            publish_all=wish.publish_all,
            default_address=row.host_binding or self._options.default_ip,
            routed=row.routed,
        )

    def _set_gateway(self, plugged: Plugged, gateway: str, gateway6: str, namespace: Fd) -> None:
        if spec := plugged.spec:
            self._plumber.route(spec.endpoint_id, gateway, gateway6, namespace)
            spec.gateway, spec.gateway6 = gateway, gateway6
