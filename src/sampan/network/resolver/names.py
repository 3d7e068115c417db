"""What the network helper knows of names: which endpoints have them, which containers ask.

All of it follows from endpoints and from `ResolverSpec`s, so that a resolver that has died is
replaced by one that knows the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from sampan.errors import DeadlineExceeded, SampanError, Unavailable
from sampan.network.plumber import EndpointSpec, NetworkSpec, ResolverSpec
from sampan.network.resolver.contract import Client, Record, Resolver
from sampan.network.resolver.process import Process, open_sockets
from sampan.rpc import Fd

log = logging.getLogger(__name__)
RESOLV_CONF: Final = Path("/etc/resolv.conf")
_CHUNK: Final = 200  # records in one packet
Placed = tuple[EndpointSpec, NetworkSpec]


class Names:
    """Keeps the resolver informed; starts it when the first container needs it."""

    def __init__(self, folder: Path | None = None, resolv_conf: Path = RESOLV_CONF) -> None:
        self._folder, self._resolv_conf = folder, resolv_conf
        self._placed: dict[str, Placed] = {}
        self._specs: dict[str, ResolverSpec] = {}
        self._namespaces: dict[str, int] = {}  # container → descriptor, to open sockets again
        self._process: Process | None = None

    # --- what happens --------------------------------------------------------------------------

    def attached(self, spec: EndpointSpec, bridge: NetworkSpec) -> None:
        """An endpoint was made."""
        self._placed[spec.endpoint_id] = spec, bridge
        self._tell_of(spec)

    def detached(self, endpoint_id: str) -> str:
        """An endpoint went; return the id of its container if that was its last one, else ""."""
        placed = self._placed.pop(endpoint_id, None)
        if placed is None:
            return ""
        container_id = placed[0].container_id
        is_last = not any(True for _ in self._of(container_id))
        gone = [container_id] if is_last and container_id in self._specs else []
        if gone:
            del self._specs[container_id]
        if is_last and (namespace := self._namespaces.pop(container_id, -1)) >= 0:
            os.close(namespace)
        records = [endpoint_id] if placed[1].domain else []
        if gone or records:
            self._tell(lambda it: it.forget(gone, records))
        if not is_last and container_id in self._specs:
            self._tell(lambda it: it.update([self._client(container_id)], []))
        return container_id if gone else ""

    def renamed(self, spec: EndpointSpec) -> None:
        """An endpoint has other names."""
        if placed := self._placed.get(spec.endpoint_id):
            self._placed[spec.endpoint_id] = spec, placed[1]
            self._tell_of(spec)

    def resolve(self, spec: ResolverSpec, namespace: int) -> None:
        """Serve a container in its namespace; what is served there already stays."""
        container_id = spec.container_id
        self._specs[container_id] = spec
        known = self._namespaces.pop(container_id, -1)
        is_same = known >= 0 and os.path.sameopenfile(known, namespace)
        if known >= 0:
            os.close(known)
        self._namespaces[container_id] = os.dup(namespace)
        process = self._process or self._begin(adopting=False)
        try:
            served = process.calls.clients() if is_same or known < 0 else []
            if container_id in served:
                process.calls.update([self._client(container_id)], [])
            else:
                self._serve(process.calls, container_id)
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("the resolver is started anew: %s", error)
            self._begin_anew()
            if not self._process:
                raise

    def adopt(self, placed: Collection[Placed], specs: Collection[ResolverSpec]) -> None:
        """Take over what a predecessor knew, and its resolver if that lives."""
        self._placed = {spec.endpoint_id: (spec, bridge) for spec, bridge in placed}
        self._specs = {spec.container_id: spec for spec in specs}
        if self._specs:
            self._begin(adopting=True)

    # --- the process ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the resolver, if it does not run, so that the first container need not wait."""
        try:
            if not self._process:
                self._begin(adopting=False)
        except SampanError as error:
            log.warning("containers will not find names: %s", error)

    def release(self) -> None:
        """Let the resolver end, as there is no network with names any more."""
        if self._process and not self._specs:
            self._process.end()
            self._process = None

    def watched(self) -> list[int]:
        """Return the descriptor that is readable when the resolver has died."""
        return [self._process.socket.fileno()] if self._process else []

    def handle(self, descriptor: int) -> None:
        """Replace a resolver that has died."""
        if descriptor in self.watched():
            log.warning("the resolver of container names has ended")
            self._begin_anew()

    def close(self) -> None:
        """Let go; containers are served further."""
        if self._process:
            self._process.close() if self._specs else self._process.end()
            self._process = None
        for namespace in self._namespaces.values():
            os.close(namespace)
        self._namespaces.clear()

    def _begin(self, *, adopting: bool) -> Process:
        process = Process.find(self._folder)
        if process:
            try:
                process.calls.clients()
            except SampanError as error:
                log.warning("the resolver of a predecessor does not answer: %s", error)
                process.end()
                process = None
        process = process or Process.start(self._folder, self._resolv_conf)
        self._process = process
        self._inform(process.calls)
        if adopting:
            lost = self._specs.keys() - set(process.calls.clients())
            if lost:
                log.warning("%d containers find no names until the engine is there", len(lost))
        return process

    def _begin_anew(self) -> None:
        """Start a resolver in place of one that failed, and open sockets for it."""
        if self._process:
            self._process.end()
            self._process = None
        if not self._specs:
            return
        try:
            process = self._process = Process.start(self._folder, self._resolv_conf)
            self._inform(process.calls)
            for container_id in self._namespaces:
                self._serve(process.calls, container_id)
        except SampanError as error:
            log.error("containers find no names: %s", error)
            if self._process:
                self._process.end()
                self._process = None

    def _inform(self, calls: Resolver) -> None:
        records = [
            record for spec, bridge in self._placed.values() for record in _record(spec, bridge)
        ]
        for start in range(0, len(records), _CHUNK):
            calls.update([], records[start : start + _CHUNK])
        calls.update([self._client(container_id) for container_id in self._specs], [])
        calls.keep(list(self._specs), [record.endpoint_id for record in records])

    def _serve(self, calls: Resolver, container_id: str) -> None:
        udp, tcp = open_sockets(self._namespaces[container_id])
        with udp, tcp:
            calls.serve(self._client(container_id), [Fd(udp.fileno()), Fd(tcp.fileno())])

    def _tell_of(self, spec: EndpointSpec) -> None:
        records = list(_record(*self._placed[spec.endpoint_id]))
        knows = spec.container_id in self._specs
        if records or knows:
            clients = [self._client(spec.container_id)] if knows else []
            self._tell(lambda it: it.update(clients, records))

    def _tell(self, call: Callable[[Resolver], None]) -> None:
        if self._process:
            try:
                call(self._process.calls)
            except SampanError as error:
                log.warning("the resolver is started anew: %s", error)
                self._begin_anew()

    # --- what it is told -----------------------------------------------------------------------

    def _of(self, container_id: str) -> Iterator[Placed]:
        return (it for it in self._placed.values() if it[0].container_id == container_id)

    def _client(self, container_id: str) -> Client:
        spec = self._specs[container_id]
        placed = sorted(self._of(container_id), key=_rank)
        return Client(
            container_id=container_id,
            networks=[bridge.network_id for _, bridge in placed if bridge.domain],
            servers=spec.servers,
            # The resolver asks from the host's namespace: a container that has no way out must
            # not get one through it.
            forwards=any(not bridge.internal for _, bridge in placed),
            aliases={alias.lower(): name for alias, name in spec.aliases.items()},
        )


def _rank(placed: Placed) -> tuple[bool, int, str]:
    """Sort the network with the default route first, then by interface."""
    spec, _ = placed
    return not spec.gateway, len(spec.interface), spec.interface


def _record(spec: EndpointSpec, bridge: NetworkSpec) -> Sequence[Record]:
    if not bridge.domain or not spec.names:
        return []
    return [
        Record(
            endpoint_id=spec.endpoint_id,
            network_id=bridge.network_id,
            domain=bridge.domain,
            names=spec.names,
            addresses=[it.partition("/")[0] for it in (spec.address, spec.address6) if it],
        )
    ]
