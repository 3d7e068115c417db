"""Published ports: the text forms of the Engine API, and which host ports they mean.

Pure functions; nothing here asks the host. Source of the rules and messages: moby
daemon/container_operations.go, api/types/network/port.go, libnetwork/drivers/bridge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal, Self, cast

from sampan.errors import InvalidArgument
from sampan.network.plumber import PortMapping
from sampan.spec.docker.networks import PortBinding

Protocol = Literal["tcp", "udp", "sctp"]
Bindings = Mapping[str, Sequence[PortBinding] | None]
PROTOCOLS: Final = ("tcp", "udp", "sctp")
MAXIMUM: Final = 65535


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A container's port: 80/tcp."""

    number: int
    protocol: Protocol = "tcp"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A published port that is to be taken back; what is empty fits all."""

    port: Port
    host_ip: str = ""
    host_port: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read [[IP:]HOST_PORT:]PORT[/PROTOCOL], as after --publish-rm; raises InvalidArgument."""
        rest, _, port = text.rpartition(":")
        address, _, host_port = rest.rpartition(":")
        [found, *more] = parse_ports(port)
        if more:
            raise InvalidArgument(f"invalid port specification: {text!r}")
        binding = PortBinding(host_ip=address, host_port=host_port)
        if host_port:
            _host_range(binding)
        return cls(found, _host_address(binding), host_port)

    def fits(self, port: Port, host_ip: str, host_port: str) -> bool:
        """Tell whether a published port is meant."""
        return (
            port == self.port
            and self.host_ip in ("", host_ip)
            and (self.host_port in ("", host_port) or not host_port)  # "": it was for us to choose
        )


def without(bindings: Bindings, unwanted: Collection[Unwanted]) -> dict[str, list[PortBinding]]:
    """Return the bindings that are not unwanted."""
    kept: dict[str, list[PortBinding]] = {}
    for text, given in bindings.items():
        for port in parse_ports(text):
            left = [
                one
                for one in given or []
                if not any(it.fits(port, one.host_ip, one.host_port) for it in unwanted)
            ]
            if left:
                kept[str(port)] = left
    return kept


def together(bindings: Bindings, more: Bindings) -> dict[str, list[PortBinding]]:
    """Return all bindings of both."""
    found: dict[str, list[PortBinding]] = {}
    for text, given in [*bindings.items(), *more.items()]:
        for port in parse_ports(text):
            found.setdefault(str(port), []).extend(given or [PortBinding()])
    return found


def parse_range(text: str) -> tuple[int, int]:
    """Return first and last of "80" or "8000-8010"."""
    first, dash, last = text.partition("-")
    try:
        start, end = _number(first), _number(last) if dash else _number(first)
    except ValueError as error:
        raise InvalidArgument(f"invalid port range '{text}': {error}") from error
    if start > end:
        raise InvalidArgument(f"invalid port range '{text}': value is out of order")
    return start, end


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"invalid syntax: {text!r}" if text else "value is empty")
    if (value := int(text[:8])) > MAXIMUM:
        raise ValueError("value out of range (0–65535)")
    return value


def parse_ports(text: str) -> list[Port]:
    """Return the ports of "80", "80/tcp" or "8000-8010/udp", as keys of ExposedPorts are written.

    Raises InvalidArgument.
    """
    numbers, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid protocol: {protocol}" if protocol else "invalid proto: ")
    first, last = parse_range(numbers)
    if not first:
        raise InvalidArgument(f"invalid port specification: {text!r}")
    return [Port(number, cast(Protocol, protocol)) for number in range(first, last + 1)]


def check(bindings: Bindings, exposed: Collection[str] = ()) -> None:
    """Check what a client wants to publish; raises InvalidArgument."""
    for text in (*bindings, *exposed):
        parse_ports(text)
    for binding in _all(bindings):
        if binding.host_port:
            _host_range(binding)
        _host_address(binding)


def mappings(
    bindings: Bindings,
    exposed: Collection[str] = (),
    *,
    publish_all: bool = False,
    default_address: str = "0.0.0.0",
    routed: Collection[int] = (),
) -> list[PortMapping]:
    """Return what is to be published, in the order of the container's ports.

    A binding without an address means all addresses of the host, of both families, on one port.
    With `publish_all` exposed ports without a binding get a random host port. Those of `routed`
    families (4, 6) are reached at the container's own address, once, whatever the host's is.
    """
    wanted: dict[Port, list[PortBinding]] = {}
    for text, given in bindings.items():
        for port in parse_ports(text):
            wanted.setdefault(port, []).extend(given or [])
    for text in exposed:
        for port in parse_ports(text):
            wanted.setdefault(port, [])
    found: list[PortMapping] = []
    for port in sorted(wanted):
        chosen = wanted[port] or ([PortBinding()] if publish_all else [])
        for binding in chosen:
            for mapping in _expand(port, binding, default_address):
                family = 6 if ":" in mapping.host_address else 4
                one = _routed(mapping, family) if family in routed else mapping
                if not (one.routed and one in found):
                    found.append(one)
    return found


def _routed(mapping: PortMapping, family: int) -> PortMapping:
    return PortMapping(
        protocol=mapping.protocol,
        host_address="::" if family == 6 else "0.0.0.0",
        host_port=0,
        container_port=mapping.container_port,
        routed=True,
    )


def port_map(
    bindings: Bindings, exposed: Collection[str], published: Iterable[PortMapping]
) -> dict[str, list[PortBinding] | None]:
    """Return `NetworkSettings.Ports`: null for ports that are exposed and not published."""
    shown: dict[str, list[PortBinding] | None] = {}
    for text in (*exposed, *bindings):
        for port in parse_ports(text):
            shown[str(port)] = None
    for mapping in published:
        key = f"{mapping.container_port}/{mapping.protocol}"
        host_port = "" if mapping.routed else str(mapping.host_port)
        binding = PortBinding(host_ip=mapping.host_address, host_port=host_port)
        shown[key] = [*(shown.get(key) or []), binding]
    return shown


def _all(bindings: Bindings) -> Iterable[PortBinding]:
    return (binding for given in bindings.values() for binding in given or [])


def _host_range(binding: PortBinding) -> tuple[int, int]:
    try:
        return parse_range(binding.host_port)
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid port specification: {binding.host_port!r}") from error


def _host_address(binding: PortBinding) -> str:
    """Return the binding's address in its canonical form, "" if it names none."""
    if not binding.host_ip:
        return ""
    try:
        address = ip_address(binding.host_ip.strip("[]"))
    except ValueError as error:
        raise InvalidArgument(f"invalid IP address: {binding.host_ip}") from error
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def _expand(port: Port, binding: PortBinding, default_address: str) -> list[PortMapping]:
    first, last = _host_range(binding) if binding.host_port else (0, 0)
    address = _host_address(binding)
    if address:
        addresses = [address]
    else:
        addresses = ["0.0.0.0", "::"] if default_address == "0.0.0.0" else [default_address]
    return [
        PortMapping(
            protocol=port.protocol,
            host_address=each,
            host_port=first,
            container_port=port.number,
            host_port_end=last if last > first else 0,
        )
        for each in addresses
    ]
