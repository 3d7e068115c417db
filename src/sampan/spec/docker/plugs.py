"""Bodies of `/containers/{id}/plugs`, which is ours: interfaces plugged into running containers."""

from __future__ import annotations

import msgspec


class PlugPeer(msgspec.Struct, rename="pascal", kw_only=True):
    """The other container of a pair."""

    container: str  # name or id; in answers the id
    interface: str = ""  # its name there; "": the first that is free
    addresses: list[str] = []
    gateways: list[str] = []
    mac_address: str = ""


class PlugRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """What is to be plugged: into exactly one of `bridge`, `parent` and `peer`."""

    bridge: str = ""  # a bridge of the host, made if it does not exist
    port: str = ""  # an interface of the host that is to be a port of the bridge
    parent: str = ""  # an interface of the host, for macvlan
    mode: str = ""  # of macvlan: bridge, private, vepa, passthru
    peer: PlugPeer | None = None
    interface: str = ""  # its name in the container; "": the first that is free
    addresses: list[str] = []  # 192.168.7.40/20; without a prefix length a single address
    gateways: list[str] = []  # where default routes lead
    mac_address: str = ""


class Plug(PlugRequest, rename="pascal", kw_only=True):
    """What was plugged."""

    id: str
    container: str  # its id
