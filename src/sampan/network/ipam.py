"""Addresses: which are free in a subnet, which subnets there are by default, MAC from address.

Pure functions and one small class; who holds which address is stored by the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Generic, TypeVar

from sampan.errors import Conflict, InvalidArgument, NoSpace

A = TypeVar("A", IPv4Address, IPv6Address)

#: (base, size) in the order they are tried. Source: moby libnetwork/ipamutils/utils.go.
DEFAULT_POOLS: Final = (
    *((f"172.{second}.0.0/16", 16) for second in (17, 18, 19)),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)


def subnets(pools: Sequence[tuple[str, int]] = ()) -> list[str]:
    """Return the subnets that pools of (base, prefix length) consist of, in order."""
    found: list[str] = []
    for base, size in pools or DEFAULT_POOLS:
        try:
            network = IPv4Network(base)
            found += [str(subnet) for subnet in network.subnets(new_prefix=size)]
        except ValueError as error:
            raise InvalidArgument(f"invalid address pool {base} size {size}: {error}") from error
    return found


def mac_of(address: IPv4Address) -> str:
    """Return the MAC address that Docker derives from an IPv4 address: 02:42 and its bytes."""
    return "02:42:" + address.packed.hex(":")


def gateway_of(subnet: IPv4Network) -> IPv4Address:
    """Return the gateway of a subnet if the user names none: its first address."""
    return subnet.network_address + 1


def unique_local(seed: str, taken: Collection[IPv6Network] = ()) -> IPv6Network:
    """Return a free /64 of the fd00::/8 network that belongs to `seed` (RFC 4193)."""
    from hashlib import sha256  # 1 MB, which the network helper needs not

    base = IPv6Network((b"\xfd" + sha256(seed.encode()).digest()[:5] + bytes(10), 48))
    return next(it for it in base.subnets(new_prefix=64) if not any(map(it.overlaps, taken)))


class AddressSpace(Generic[A]):
    """The addresses of one network, given out one after the other as Docker does.

    An address that was given back is used again only when the others have had their turn.
    """

    def __init__(
        self,
        subnet: IPv4Network | IPv6Network,
        gateway: A | None,
        *,
        ip_range: IPv4Network | IPv6Network | None = None,
        auxiliary: Mapping[str, A] | None = None,
        taken: Collection[A] = (),
    ) -> None:
        self._subnet, self._range = subnet, ip_range or subnet
        self._kind: type[A] = type(subnet.network_address)  # type: ignore[assignment]
        self._reserved: set[A] = set((auxiliary or {}).values()) | ({gateway} if gateway else set())
        if subnet.num_addresses > 2:
            first, last = subnet.network_address, subnet.broadcast_address
            self._reserved |= {self._kind(int(first)), self._kind(int(last))}
        self._taken: set[A] = set(taken)
        self._last: A = max(
            (address for address in self._taken if address in self._range),
            default=self._kind(int(self._range.network_address) - 1),
        )

    def take(self, wanted: A | None = None) -> A:
        """Return an address that nobody has, or `wanted`.

        Raises Conflict ("Address already in use"), NoSpace if all are taken, and InvalidArgument
        for an address outside the subnet.
        """
        if wanted is None:
            wanted = next(self._free(), None)
            if wanted is None:
                raise NoSpace(f"no available addresses in {self._range}")
        elif wanted not in self._subnet:
            raise InvalidArgument(
                "invalid endpoint settings: no configured subnet or ip-range contain the IP "
                f"address {wanted}"
            )
        elif wanted in self._taken or wanted in self._reserved:
            raise Conflict("Address already in use")
        self._taken.add(wanted)
        if wanted in self._range:
            self._last = wanted
        return wanted

    def give_back(self, address: A) -> None:
        """Make an address free again."""
        self._taken.discard(address)

    def _free(self) -> Iterator[A]:
        first, count = int(self._range.network_address), self._range.num_addresses
        start = int(self._last) - first + 1
        for offset in range(count):
            address = self._kind(first + (start + offset) % count)
            if address not in self._taken and address not in self._reserved:
                yield address
