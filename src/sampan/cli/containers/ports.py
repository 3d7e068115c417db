"""Port specifications of --publish and --expose.

Source of rules and sentences: docker/go-connections nat.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.spec.addresses import is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOLS = ("tcp", "udp", "sctp")
MOST = 65535


def bindings_of(specifications: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """Return the API's PortBindings. Raises InvalidArgument."""
    found: dict[str, list[dict[str, str]]] = {}
    for specification in specifications:
        for port, binding in _parse(_standard(specification)):
            found.setdefault(port, []).append(binding)
    return found


def exposed(specification: str) -> list[str]:
    """Return the ports of one --expose, as `80/tcp`."""
    ports, protocol = _split_protocol(specification)
    try:
        low, high = _range(ports)
    except ValueError as error:
        raise InvalidArgument(f"invalid range format for --expose: {error}") from None
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid range format for --expose: invalid protocol: {protocol}")
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def _standard(specification: str) -> str:
    """Turn `published=80,target=8080,protocol=tcp` into the short form."""
    if "=" not in specification:
        return specification
    found = {"protocol": "tcp", "published": "", "target": ""}
    for field in specification.split(","):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise InvalidArgument(
                f"invalid publish opts format (should be name=value but got '{field}')"
            )
        found[key] = value
    return f"{found['published']}:{found['target']}/{found['protocol']}"


def _parse(specification: str) -> Iterable[tuple[str, dict[str, str]]]:
    address, host, ports = _split(specification)
    container, protocol = _split_protocol(ports)
    if not container:
        raise InvalidArgument(f"no port specified: {specification}<empty>")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address and not is_address(address):
        raise InvalidArgument(f"invalid IP address: {address}")
    if protocol.lower() not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}")
    try:
        low, high = _range(container)
    except ValueError:
        raise InvalidArgument(f"invalid containerPort: {container}") from None
    try:
        first, last = _range(host) if host else (0, 0)
    except ValueError:
        raise InvalidArgument(f"invalid hostPort: {host}") from None
    if host and high - low != last - first and low != high:
        raise InvalidArgument(
            f"invalid ranges specified for container and host Ports: {container} and {host}"
        )
    return _pairs((low, high), (first, last) if host else None, address, protocol.lower())


def _pairs(
    container: tuple[int, int], host: tuple[int, int] | None, address: str, protocol: str
) -> Iterable[tuple[str, dict[str, str]]]:
    low, high = container
    for offset in range(high - low + 1):
        number = ""
        if host:
            first, last = host
            # One port of the container and a range of the host: the daemon picks a free one.
            number = f"{first}-{last}" if low == high and first != last else str(first + offset)
        yield f"{low + offset}/{protocol}", {"HostIp": address, "HostPort": number}


def _split(specification: str) -> tuple[str, str, str]:
    """Split `[address:][host:]container[/protocol]` from the right: addresses have colons."""
    head, _, container = specification.rpartition(":")
    address, _, host = head.rpartition(":")
    return address, host, container


def _split_protocol(ports: str) -> tuple[str, str]:
    numbers, _, protocol = ports.partition("/")
    return numbers, protocol or "tcp"


def _range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    first = _port(low)
    last = _port(high) if dash else first
    if last < first:
        raise ValueError(f"invalid range specified for port: {text}")
    return first, last


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > MOST:
        raise ValueError(f"invalid port '{text}'")
    return int(text)
