"""The connections of granian: who is silent for too long, and who takes the room of others.

Granian has a number of connections, and no idea whose they are: one client that opens so many and
says nothing shuts everybody out. It works in our process, so its sockets can be seen, and ended, by
their descriptors.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import resource
import socket
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sampan.http.limits import Limits
from sampan.http.peers import owner, plain

LITTLE = 4 << 10  # bytes that are no progress: pings, say
_COUNTERS = struct.Struct("=QQ")  # linux/tcp.h: tcpi_bytes_acked, tcpi_bytes_received
_COUNTERS_AT = 120
Peer = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Sight:
    """A connection that is there: its descriptor, and the bytes that went both ways."""

    descriptor: int
    peer: Peer
    moved: int


@dataclass(slots=True)
class _Known:
    """What is remembered of a connection."""

    began: float
    news: float  # when it last did something
    moved: int
    asked: bool = False
    running: int = 0  # requests


class Crowd:
    """Knows the connections of one server. Belongs to one thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[Peer, _Known] = {}

    def begin(self, peer: Peer, now: float) -> None:
        """A request begins."""
        known = self._known.setdefault(peer, _Known(now, now, 0))
        known.asked, known.news = True, now
        known.running += 1

    def end(self, peer: Peer, now: float) -> None:
        """A request has ended."""
        if known := self._known.get(peer):
            known.running -= 1
            known.news = now

    def superfluous(self, sights: Sequence[Sight], now: float) -> list[Sight]:
        """Return the connections that are to be ended: silent ones, and those above the limit.

        For that, whoever has most gives: first what was idle for longest.
        """
        there = {sight.peer for sight in sights}
        for peer in [p for p, known in self._known.items() if p not in there and not known.running]:
            del self._known[peer]
        silent: list[Sight] = []
        others: list[Sight] = []
        for sight in sights:
            known = self._known.setdefault(sight.peer, _Known(now, now, sight.moved))
            if not 0 <= sight.moved - known.moved < LITTLE:
                known.moved, known.news = sight.moved, now
            (silent if self._is_silent(known, now) else others).append(sight)
        return silent + self._crowding(others, len(others) - self._limits.connections)

    def _is_silent(self, known: _Known, now: float) -> bool:
        if known.running:  # the application has its own patience
            return False
        if not known.asked and now - known.began > self._limits.head_seconds:
            return True
        return now - known.news > self._limits.idle_seconds

    def _crowding(self, sights: Sequence[Sight], excess: int) -> list[Sight]:
        if excess <= 0:
            return []
        by_owner: dict[str, list[Sight]] = {}
        for sight in sights:
            by_owner.setdefault(owner(sight.peer[0]), []).append(sight)
        for mine in by_owner.values():
            mine.sort(key=self._worth)
        heap = [(-len(mine), who) for who, mine in by_owner.items()]
        heapq.heapify(heap)
        found = []
        for _ in range(excess):
            size, who = heap[0]
            found.append(by_owner[who].pop())
            heapq.heapreplace(heap, (size + 1, who))
        return found

    def _worth(self, sight: Sight) -> tuple[bool, float]:
        """Sort what is given up first to the end."""
        known = self._known[sight.peer]
        return not known.running, -known.news


def connections(port: int) -> Iterator[Sight]:
    """Yield the connections that this process has accepted on a port of TCP."""
    for descriptor in _descriptors():
        with contextlib.suppress(OSError, ValueError):  # it is closed, or is something else
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and (found := _sight(descriptor, port)):
                yield found


def _descriptors() -> Iterable[int]:
    try:
        return map(int, os.listdir("/proc/self/fd"))
    except OSError:  # EMFILE: it is high time, and one more to read the list is too many
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _sight(descriptor: int, port: int) -> Sight | None:
    """Look at a socket that is somebody else's, and leave it to them."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)
    try:
        name = sock.getsockname()
        if not isinstance(name, tuple) or len(name) < 2 or name[1] != port:
            return None
        host, number = sock.getpeername()[:2]
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _COUNTERS_AT + _COUNTERS.size)
        moved = sum(_COUNTERS.unpack_from(told, _COUNTERS_AT))
        return Sight(descriptor, (plain(host), number), moved)
    finally:
        sock.detach()


def end(sight: Sight, port: int) -> None:
    """End a connection, whoever has its socket, if it is still the one that was seen."""
    with contextlib.suppress(OSError):
        with _held(sight.descriptor) as descriptor:
            seen = _sight(descriptor, port)
            if seen and seen.peer == sight.peer:
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                finally:
                    sock.detach()


@contextlib.contextmanager
def _held(descriptor: int) -> Iterator[int]:
    """Lend a copy of a descriptor: of that, nobody else can make something else meanwhile."""
    try:
        copy = os.dup(descriptor)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        yield descriptor
        return
    try:
        yield copy
    finally:
        os.close(copy)
