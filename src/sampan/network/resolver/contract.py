"""The contract of the resolver: the process, without privilege, that answers containers' DNS.

The network helper starts it, gives it sockets that were opened in the containers' namespaces, and
tells it names. It outlives the helper and the daemon; a successor connects with it again.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from sampan.rpc import Fd

ADDRESS = "127.0.0.11"  # where containers ask, as in Docker


class Client(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A container that asks."""

    container_id: str
    networks: list[str] = []  # ids of those on which it finds names, the preferred one first
    servers: list[str] = []  # who is asked what nobody here knows; []: those of the host
    forwards: bool = False  # whether anybody is asked at all: not from internal networks
    aliases: dict[str, str] = {}  # names that only this container uses → name on its networks


class Record(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A container that is found: one endpoint."""

    endpoint_id: str
    network_id: str
    domain: str = ""  # the network's name: NAME.DOMAIN is found as well
    names: list[str] = []  # the first one answers for the address
    addresses: list[str] = []


class Resolver(Protocol):
    """Answers DNS on descriptors that it is given."""

    def clients(self) -> list[str]:
        """Return the ids of the containers that are served."""

    def serve(self, client: Client, sockets: list[Fd]) -> None:
        """Serve a container on a bound UDP and a listening TCP socket, in place of older ones."""

    def update(self, clients: list[Client], records: list[Record]) -> None:
        """Note what clients may find, and who is found; what was known by the same id goes."""

    def forget(self, clients: list[str], records: list[str]) -> None:
        """Close the sockets of clients, and find records no longer; unknown ids are no error."""

    def keep(self, clients: list[str], records: list[str]) -> None:
        """Forget all but these."""
