"""Host ports that are really taken: bound sockets, held as long as the port is published.

So no other program of the host can take the port, none gets it as a source port, and a port that
is in use is refused. The packets never reach these sockets: the firewall redirects them first.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from sampan.errors import Conflict, InvalidArgument
from sampan.network.plumber import PortMapping
from sampan.network.sandbox import read_sysctl

log = logging.getLogger(__name__)

ATTEMPTS: Final = 10  # of a random port, or one of a range, that other programs hold
DEFAULT_RANGE: Final = (49153, 65535)  # moby portallocator, if the kernel does not say
IPPROTO_SCTP: Final = 132
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, IPPROTO_SCTP),
}
_ANY: Final = {4: "0.0.0.0", 6: "::"}
#: What a host without IPv6, or without SCTP, answers.
_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


@dataclass(slots=True)
class Reservation:
    """A published port that is held; `socket` is None where the kernel lacks the protocol."""

    mapping: PortMapping
    socket: socket.socket | None = None

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Return what no two have in common."""
        return key_of(self.mapping)

    def close(self) -> None:
        """Give the port back to the host."""
        if self.socket:
            self.socket.close()


@dataclass(slots=True)
class Reservations:
    """All host ports that are published, and the search for free ones."""

    _taken: dict[tuple[str, int, int], set[str]] = field(default_factory=dict)
    _last: int = 0

    def take(self, mappings: Sequence[PortMapping]) -> list[Reservation]:
        """Reserve all or none; ports are filled in.

        Conflict if a port is published already, or held by another program.
        """
        taken: list[Reservation] = []
        with ExitStack() as undo:
            for group in groups(mappings):
                found = self._take_group(group)
                taken += found
                undo.callback(self.release, found)
            undo.pop_all()
        return taken

    def retake(self, mapping: PortMapping) -> Reservation:
        """Reserve a port that firewall rules already serve, after a restart of this process.

        If another program has got the port meanwhile, it is logged: the rules still go first.
        """
        if mapping.routed:
            return Reservation(mapping)
        self._note(mapping)
        try:
            return Reservation(mapping, _bind(mapping))
        except OSError as error:
            where = f"{mapping.host_address}:{mapping.host_port}/{mapping.protocol}"
            log.warning("the published port %s is not reserved any more: %s", where, error)
            return Reservation(mapping)

    def release(self, reservations: Sequence[Reservation]) -> None:
        """Give ports back."""
        for reservation in reservations:
            mapping = reservation.mapping
            family = ip_address(mapping.host_address).version
            key = (mapping.protocol, family, mapping.host_port)
            if addresses := self._taken.get(key):
                addresses.discard(mapping.host_address)
                if not addresses:
                    del self._taken[key]
            reservation.close()

    def _take_group(self, group: Sequence[PortMapping]) -> list[Reservation]:
        if group[0].routed:
            return [Reservation(mapping) for mapping in group]
        one_port = group[0].host_port and group[0].host_port_end in (0, group[0].host_port)
        failures = 0
        for port in self._candidates(group[0]):
            try:
                return self._take_port(group, port)
            except Conflict:
                failures += 1
                if one_port or failures >= ATTEMPTS:
                    raise
        raise Conflict("all ports are allocated")

    def _candidates(self, mapping: PortMapping) -> Iterator[int]:
        if mapping.host_port:
            last = max(mapping.host_port_end, mapping.host_port)
            for port in range(mapping.host_port, last + 1):
                if port == last or not self._is_taken(mapping, port):
                    yield port
            return
        first, last = ephemeral_range()
        excluded = _reserved_by_administrator()
        start = self._last if first <= self._last < last else first - 1
        for offset in range(last - first + 1):
            port = first + (start + 1 + offset - first) % (last - first + 1)
            if port not in excluded and not self._is_taken(mapping, port):
                self._last = port
                yield port

    def _take_port(self, group: Sequence[PortMapping], port: int) -> list[Reservation]:
        found: list[Reservation] = []
        with ExitStack() as undo:
            for wanted in group:
                mapping = PortMapping(
                    protocol=wanted.protocol,
                    host_address=wanted.host_address,
                    host_port=port,
                    container_port=wanted.container_port,
                )
                if taken := self._taken_address(mapping, port):
                    raise Conflict(f"Bind for {taken}:{port} failed: port is already allocated")
                try:
                    sock = _bind(mapping)
                except OSError as error:
                    if error.errno in _NO_SUCH_FAMILY and wanted.host_address == "::":
                        continue
                    raise _refusal(mapping, error) from error
                reservation = Reservation(mapping, sock)
                self._note(mapping)
                undo.callback(self.release, [reservation])
                found.append(reservation)
            undo.pop_all()
        return found

    def _note(self, mapping: PortMapping) -> None:
        family = ip_address(mapping.host_address).version
        key = (mapping.protocol, family, mapping.host_port)
        self._taken.setdefault(key, set()).add(mapping.host_address)

    def _is_taken(self, mapping: PortMapping, port: int) -> bool:
        return any((mapping.protocol, family, port) in self._taken for family in (4, 6))

    def _taken_address(self, mapping: PortMapping, port: int) -> str:
        """Return the address whose use of the port stands in the way, "" if none."""
        family = ip_address(mapping.host_address).version
        addresses = self._taken.get((mapping.protocol, family, port), set())
        if mapping.host_address == _ANY[family]:
            return next(iter(sorted(addresses)), "")
        return next((a for a in (mapping.host_address, _ANY[family]) if a in addresses), "")


def key_of(mapping: PortMapping) -> tuple[str, str, int, int]:
    """Return what no two published ports have in common."""
    port = mapping.container_port if mapping.routed else 0
    return mapping.protocol, mapping.host_address, mapping.host_port, port


def groups(mappings: Sequence[PortMapping]) -> Iterator[list[PortMapping]]:
    """Yield runs of neighbours that differ only in the host's address: they share a port."""
    group: list[PortMapping] = []
    for mapping in mappings:
        if group and (
            _but_address(group[0]) != _but_address(mapping)
            or mapping.host_address in {member.host_address for member in group}
        ):
            yield group
            group = []
        group.append(mapping)
    if group:
        yield group


def _but_address(mapping: PortMapping) -> tuple[str, int, int, int, bool]:
    ports = mapping.host_port, mapping.host_port_end, mapping.container_port
    return mapping.protocol, *ports, mapping.routed


def ephemeral_range() -> tuple[int, int]:
    """Return the first and last port that the kernel gives to programs that do not choose."""
    try:
        first, last = read_sysctl("ipv4/ip_local_port_range").split()
        return int(first), int(last)
    except ValueError:
        return DEFAULT_RANGE


def _reserved_by_administrator() -> set[int]:
    ports: set[int] = set()
    for part in read_sysctl("ipv4/ip_local_reserved_ports").split(","):
        first, _, last = part.partition("-")
        if first:
            ports.update(range(int(first), int(last or first) + 1))
    return ports


def _refusal(mapping: PortMapping, error: OSError) -> Exception:
    address = mapping.host_address
    where = f"[{address}]" if ":" in address else address
    reason = os.strerror(error.errno or 0).lower()
    if error.errno == errno.EADDRNOTAVAIL:
        reason = "cannot assign requested address"
    message = f"failed to bind host port {where}:{mapping.host_port}/{mapping.protocol}: {reason}"
    return Conflict(message) if error.errno == errno.EADDRINUSE else InvalidArgument(message)


def _bind(mapping: PortMapping) -> socket.socket | None:
    """Return a bound socket; None where the protocol cannot be reserved (SCTP not in the kernel).

    An IPv4 socket does not listen: if our rules should be lost, clients are refused at once
    instead of waiting for ever. With SO_REUSEADDR cleared after bind(2), no other program can
    bind the port, while connections of a former owner that linger do not keep us from it.
    """
    version = ip_address(mapping.host_address).version
    kind, protocol = _KINDS[mapping.protocol]
    try:
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind, protocol)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT and mapping.protocol == "sctp":
            return None
        raise
    try:
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if mapping.protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((mapping.host_address, mapping.host_port))
        if mapping.protocol == "tcp" and version == 4:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        return sock
    except BaseException:
        sock.close()
        raise
