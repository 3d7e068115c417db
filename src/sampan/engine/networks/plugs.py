"""Interfaces plugged into running containers by hand: which there are, and their end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Interface, ip_interface
from typing import Final

import msgspec

from sampan.engine.blocking import blocking
from sampan.engine.networks.addressing import Address, Addressing
from sampan.engine.networks.database import NetworkRow
from sampan.engine.undisturbed import to_the_end, undisturbed
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.network.ipam import mac_of
from sampan.network.plumber import IntoBridge, OntoParent, PlugEnd, PlugSpec, Plumber, ToPeer
from sampan.rpc import Fd
from sampan.spec.docker.plugs import Plug, PlugPeer, PlugRequest
from sampan.spec.names import new_id

log = logging.getLogger(__name__)
_MODES: Final = ("", "bridge", "private", "vepa", "passthru")


class Plugs:
    """What is plugged. `row_on` finds the engine's network on an interface of the host."""

    def __init__(
        self,
        plumber: Plumber,
        addressing: Addressing,
        row_on: Callable[[str], NetworkRow | None],
    ) -> None:
        self._plumber, self._addressing, self._row_on = plumber, addressing, row_on
        self._plugs: dict[str, PlugSpec] = {}

    def adopt(self, made: Iterable[PlugSpec], running: Collection[str]) -> list[str]:
        """Take over what running containers have, and return its ids."""
        for spec in made:
            if all(container_id in running for container_id in _containers(spec)):
                self._plugs[spec.plug_id] = spec
                try:
                    self._reserve(spec)
                except SampanError as error:  # it was plugged with another range
                    log.warning("%s of %s: %s", spec.end.interface, spec.container_id[:12], error)
        return list(self._plugs)

    async def plug(
        self, container_id: str, request: PlugRequest, namespace: Fd, peer: Fd | None
    ) -> Plug:
        """Plug what is wanted; `request.peer` names the other container by its id.

        An address of a network of ours is kept for it: Forbidden if somebody has it.
        """
        spec = spec_of(container_id, request)
        with ExitStack() as undo:
            self._reserve(spec)
            undo.callback(self._release, spec)
            made = await to_the_end(
                blocking(self._plumber.plug, spec, namespace, peer),
                lambda it: self._plumber.unplug(it.plug_id, namespace, peer),
            )
            undo.pop_all()
        self._plugs[made.plug_id] = made
        return shown(made, container_id)

    def find(self, container_id: str, interface: str) -> PlugSpec:
        """Return what is plugged as an interface of a container; NotFound."""
        for spec in self._plugs.values():
            if shown(spec, container_id).interface == interface and container_id in _containers(
                spec
            ):
                return spec
        raise NotFound(f"nothing is plugged into container {container_id} as {interface}")

    def of(self, container_id: str) -> list[Plug]:
        """Return what is plugged into a container."""
        mine = [it for it in self._plugs.values() if container_id in _containers(it)]
        return [shown(spec, container_id) for spec in mine]

    async def unplug(self, spec: PlugSpec, namespace: Fd | None, peer: Fd | None) -> None:
        """Take it back; `namespace` and `peer` are those of containers that run on."""
        self._plugs.pop(spec.plug_id, None)
        self._release(spec)
        await undisturbed(self._plumber.unplug, spec.plug_id, namespace, peer)

    async def end(self, container_id: str) -> None:
        """Take back all that was plugged into a container that has ended."""
        for spec in [it for it in self._plugs.values() if container_id in _containers(it)]:
            await self.unplug(spec, None, None)

    # --- addresses of networks of ours -------------------------------------------------------

    def _reserve(self, spec: PlugSpec) -> None:
        if row := self._row_on(_place(spec)):
            self._addressing.take(row, _addresses(spec))

    def _release(self, spec: PlugSpec) -> None:
        if row := self._row_on(_place(spec)):
            self._addressing.give_back_all(row, _addresses(spec))


def spec_of(container_id: str, request: PlugRequest) -> PlugSpec:
    """Return what the plumber is to plug; InvalidArgument if that is not one thing."""
    wanted = [bool(it) for it in (request.bridge, request.parent, request.peer)]
    if wanted.count(True) != 1:
        raise InvalidArgument("name one of a bridge, a parent interface and another container")
    if (request.port and not request.bridge) or (request.mode and not request.parent):
        raise InvalidArgument("a port goes with a bridge, and a mode with a parent interface")
    if request.mode not in _MODES:
        raise InvalidArgument(f"requested macvlan mode '{request.mode}' is not valid")
    into: IntoBridge | OntoParent | ToPeer
    if request.peer:
        into = ToPeer(container_id=request.peer.container, end=_end(request.peer))
    elif request.bridge:
        into = IntoBridge(name=request.bridge, port=request.port)
    else:
        mode = request.mode or "bridge"
        into = msgspec.convert(
            {"type": "macvlan", "parent": request.parent, "mode": mode}, OntoParent
        )
    return PlugSpec(plug_id=new_id(), container_id=container_id, end=_end(request), into=into)


def _end(wanted: PlugRequest | PlugPeer) -> PlugEnd:
    try:
        addresses = [ip_interface(text) for text in wanted.addresses]
    except ValueError as error:
        raise InvalidArgument(f"invalid address: {error}") from error
    fours = [it for it in addresses if isinstance(it, IPv4Interface)]
    derived = mac_of(fours[0].ip) if fours else ""
    return PlugEnd(
        interface=wanted.interface,
        addresses=[str(address) for address in addresses],
        gateways=wanted.gateways,
        mac_address=wanted.mac_address.lower().replace("-", ":") or derived,
    )


def shown(spec: PlugSpec, container_id: str) -> Plug:
    """Return what the API shows of it, as one of its containers sees it."""
    end, into = spec.end, spec.into
    if isinstance(into, ToPeer) and container_id == into.container_id:
        end, into = into.end, ToPeer(container_id=spec.container_id, end=spec.end)
    plug = Plug(
        id=spec.plug_id,
        container=container_id,
        interface=end.interface,
        addresses=end.addresses,
        gateways=end.gateways,
        mac_address=end.mac_address,
    )
    match into:
        case IntoBridge():
            plug.bridge, plug.port = into.name, into.port
        case OntoParent():
            plug.parent, plug.mode = into.parent, into.mode
        case ToPeer(container_id=other, end=far):
            plug.peer = PlugPeer(
                container=other,
                interface=far.interface,
                addresses=far.addresses,
                gateways=far.gateways,
                mac_address=far.mac_address,
            )
    return plug


def _containers(spec: PlugSpec) -> Sequence[str]:
    others = [spec.into.container_id] if isinstance(spec.into, ToPeer) else []
    return [spec.container_id, *others]


def _place(spec: PlugSpec) -> str:
    """Return the interface of the host that it is on; "" if it is on none."""
    match spec.into:
        case IntoBridge(name=name):
            return name
        case OntoParent(parent=parent):
            return parent
    return ""


def _addresses(spec: PlugSpec) -> list[Address]:
    return [ip_interface(text).ip for text in spec.end.addresses]
