"""The addresses of endpoints: which network gives which to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Network
from typing import Any, Final

from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.endpoint_settings import (
    address_of,
    dns_names,
    gateway6_of,
    gateway_of,
    sysctls_of,
)
from sampan.engine.networks.model import Wish
from sampan.errors import Conflict, Forbidden, Internal, NoSpace
from sampan.network.ipam import A, AddressSpace, mac_of
from sampan.network.plumber import EndpointSpec
from sampan.spec.docker.networks import EndpointIPAMConfig, EndpointSettings
from sampan.spec.names import new_id

IFNAME: Final = "com.docker.network.endpoint.ifname"

Address = IPv4Address | IPv6Address


class Addressing:
    """The address spaces of all bridge networks."""

    def __init__(self) -> None:
        self._spaces: dict[str, AddressSpace[IPv4Address]] = {}
        self._spaces6: dict[str, AddressSpace[IPv6Address]] = {}

    def open(self, row: NetworkRow) -> None:
        """Begin to give out addresses of a network."""
        auxiliary = {it: IPv4Address(text) for it, text in (row.config.aux_address or {}).items()}
        self._spaces[row.network.id] = AddressSpace(
            row.subnet, row.gateway, ip_range=row.ip_range, auxiliary=auxiliary
        )
        if (config := row.config6) and row.subnet6:
            taken = {it: IPv6Address(text) for it, text in (config.aux_address or {}).items()}
            part = IPv6Network(config.ip_range) if config.ip_range else None
            self._spaces6[row.network.id] = AddressSpace(
                row.subnet6, row.gateway6, ip_range=part, auxiliary=taken
            )

    def shut(self, row: NetworkRow) -> None:
        """Give out no more addresses of a network."""
        self._spaces.pop(row.network.id, None)
        self._spaces6.pop(row.network.id, None)

    def adopt(self, spec: EndpointSpec) -> None:
        """Note an endpoint that has its addresses already."""
        self._spaces[spec.network_id].take(address_of(spec))
        if spec.address6 and (space := self._spaces6.get(spec.network_id)):
            space.take(_address6(spec))

    def take(self, row: NetworkRow, addresses: Sequence[Address]) -> None:
        """Keep addresses of a network for what was plugged by hand; others mean nothing to it.

        Raises Forbidden for one that is taken, and keeps none then.
        """
        with ExitStack() as undo:
            for address in addresses:
                space = self._space(row, address)
                subnet = row.subnet if address.version == 4 else row.subnet6
                if space and subnet and address in subnet:
                    _taken(row, space, address, f"IPv{address.version}")
                    undo.callback(space.give_back, address)
            undo.pop_all()

    def give_back_all(self, row: NetworkRow, addresses: Sequence[Address]) -> None:
        """Take `take` back."""
        for address in addresses:
            if space := self._space(row, address):
                space.give_back(address)

    def _space(self, row: NetworkRow, address: Address) -> Any:
        spaces = self._spaces if address.version == 4 else self._spaces6
        return spaces.get(row.network.id)

    def spec(
        self,
        wish: Wish,
        row: NetworkRow,
        wanted: EndpointSettings | None,
        number: int,
        *,
        is_gateway: bool,
    ) -> EndpointSpec:
        """Return a new endpoint with addresses; `number` is that of its interface.

        Raises Forbidden for an address that is taken, Internal if there are no more.
        """
        wanted = wanted or EndpointSettings()
        asked = wanted.ipam_config
        fixed = IPv4Address(asked.ipv4_address) if asked and asked.ipv4_address else None
        mac = wanted.mac_address or wish.mac_address
        if mac and row.network.driver == "ipvlan":
            raise Internal("ipvlan interfaces do not support custom mac address assignment")
        address = _taken(row, self._spaces[row.network.id], fixed, "IPv4")
        try:
            address6 = self._take6(row, asked)
        except BaseException:
            self._spaces[row.network.id].give_back(address)
            raise
        return EndpointSpec(
            endpoint_id=new_id(),
            network_id=row.network.id,
            address=f"{address}/{row.subnet.prefixlen}",
            mac_address=_mac(row, address, mac),
            gateway=gateway_of(row) if is_gateway else "",
            address6=address6,
            gateway6=gateway6_of(row) if is_gateway else "",
            interface=(wanted.driver_opts or {}).get(IFNAME) or f"{row.prefix}{number}",
            container_id=wish.container_id,
            names=dns_names(row, wish, wanted) or [],
            sysctls=sysctls_of(wanted.driver_opts or {}),
            more_addresses=_link_local(asked.link_local_ips if asked else None),
        )

    def _take6(self, row: NetworkRow, asked: EndpointIPAMConfig | None) -> str:
        """Return an IPv6 address with its prefix length, "" on a network without."""
        if not (space := self._spaces6.get(row.network.id)) or not row.subnet6:
            return ""
        fixed = IPv6Address(asked.ipv6_address) if asked and asked.ipv6_address else None
        return f"{_taken(row, space, fixed, 'IPv6')}/{row.subnet6.prefixlen}"

    def give_back(self, spec: EndpointSpec) -> None:
        """Make an endpoint's addresses free again."""
        if space := self._spaces.get(spec.network_id):
            space.give_back(address_of(spec))
        if spec.address6 and (space6 := self._spaces6.get(spec.network_id)):
            space6.give_back(_address6(spec))


def _taken(row: NetworkRow, space: AddressSpace[A], fixed: A | None, family: str) -> A:
    """Take an address, and say in Docker's words why there is none."""
    try:
        return space.take(fixed)
    except NoSpace as error:
        raise Internal(
            f"no available {family} addresses on this network's address pools: "
            f"{row.network.name} ({row.network.id})"
        ) from error
    except Conflict as error:
        raise Forbidden(str(error)) from error


def _mac(row: NetworkRow, address: IPv4Address, chosen: str) -> str:
    if row.network.driver == "ipvlan":  # that of the parent
        return ""
    return chosen.lower().replace("-", ":") or mac_of(address)


def _address6(spec: EndpointSpec) -> IPv6Address:
    return IPv6Address(spec.address6.partition("/")[0])


def free_number(taken: Mapping[str, object], prefix: str) -> int:
    """Return the number of the next interface of that kind."""
    return next(number for number in range(len(taken) + 1) if f"{prefix}{number}" not in taken)


def _link_local(texts: list[str] | None) -> list[str]:
    """Return addresses with the prefix length of their class, as moby's libnetwork has it."""
    found = []
    for text in texts or ():
        address = IPv4Address(text)
        first = address.packed[0]
        found.append(str(IPv4Interface((address, 8 if first < 128 else 16 if first < 192 else 24))))
    return found
