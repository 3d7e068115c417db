"""Names: who is found by whom. No input or output."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

from sampan.network.resolver.contract import Client, Record
from sampan.network.resolver.messages import encode_name, packed


class _Name:
    """The endpoints that have a name on a network, and whose turn it is."""

    __slots__ = ("endpoints", "turns")

    def __init__(self) -> None:
        self.endpoints: list[_Found] = []
        # For each family, as clients ask for both at a time: with one turn for both, every
        # second endpoint would never be the first.
        self.turns = {False: 0, True: 0}

    def addresses(self, *, ipv6: bool) -> list[bytes]:
        turn = self.turns[ipv6] = (self.turns[ipv6] + 1) % len(self.endpoints)
        ordered = self.endpoints[turn:] + self.endpoints[:turn]
        return [address for it in ordered for address in (it.addresses6 if ipv6 else it.addresses)]


class _Found:
    __slots__ = ("addresses", "addresses6", "pointer", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.addresses, self.addresses6 = packed(record.addresses)
        self.pointer = b""
        if record.names:
            name = record.names[0] + (f".{record.domain}" if record.domain else "")
            try:
                self.pointer = encode_name(name)
            except ValueError:  # a name that Docker allows and DNS does not
                self.pointer = b""


class Zones:
    """All records and clients."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self._found: dict[str, _Found] = {}
        self._names: dict[str, dict[str, _Name]] = {}  # network → name
        self._addresses: dict[tuple[str, str], _Found] = {}  # (network, address)
        self._domains: dict[str, str] = {}  # network → its name, lower case

    def note(self, record: Record) -> None:
        """Add or replace a record."""
        self.drop(record.endpoint_id)
        found = self._found[record.endpoint_id] = _Found(record)
        names = self._names.setdefault(record.network_id, {})
        for name in {name.lower() for name in record.names}:
            names.setdefault(name, _Name()).endpoints.append(found)
        for address in record.addresses:
            self._addresses[record.network_id, str(ip_address(address))] = found
        self._domains[record.network_id] = record.domain.lower()

    def drop(self, endpoint_id: str) -> None:
        """Take a record away; it need not exist."""
        if not (found := self._found.pop(endpoint_id, None)):
            return
        record = found.record
        names = self._names[record.network_id]
        for name in {name.lower() for name in record.names}:
            names[name].endpoints.remove(found)
            if not names[name].endpoints:
                del names[name]
        if not names:
            del self._names[record.network_id], self._domains[record.network_id]
        for address in record.addresses:
            key = (record.network_id, str(ip_address(address)))
            if self._addresses.get(key) is found:
                del self._addresses[key]

    def keep(self, clients: Collection[str], records: Collection[str]) -> list[str]:
        """Drop all but these; return the clients that went."""
        for endpoint_id in self._found.keys() - set(records):
            self.drop(endpoint_id)
        gone = list(self.clients.keys() - set(clients))
        for container_id in gone:
            del self.clients[container_id]
        return gone

    def addresses(self, client: Client, name: str, *, ipv6: bool) -> list[bytes] | None:
        """Return the addresses behind a name in lower case; None if nobody has it.

        Several endpoints take turns at being the first.
        """
        name = client.aliases.get(name, name).lower()
        for network in client.networks:
            names = self._names.get(network)
            if names is None:
                continue
            found = names.get(name)
            if found is None and "." in name:
                short = name.removesuffix("." + self._domains[network])
                found = names.get(short) if len(short) < len(name) else None
            if found is None:
                continue
            return found.addresses(ipv6=ipv6)
        return None

    def pointer(self, client: Client, address: IPv4Address | IPv6Address) -> bytes | None:
        """Return the encoded name of an address on one of the client's networks."""
        for network in client.networks:
            if found := self._addresses.get((network, str(address))):
                return found.pointer or None
        return None
