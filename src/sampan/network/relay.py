"""Published ports that no firewall rule serves: bytes are copied.

None can translate from the host's IPv6 addresses to containers that only have IPv4, and with
`--iptables=false` there are none at all. Such a port is a listening socket. A process for it is
forked when the first client comes, as nobody with no capabilities, and ends when it has had
nothing to do for a while: a port that nobody uses costs a descriptor. The container sees the
gateway as its client, as with Docker's proxy.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sampan.linux import capabilities
from sampan.linux.process import PR_SET_PDEATHSIG, close_range, prctl

log = logging.getLogger(__name__)

NOBODY: Final = 65534
BACKLOG: Final = 128
IDLE: Final = 30.0  # seconds without a client after which the process ends
UDP_SESSION: Final = 90.0  # seconds, moby cmd/docker-proxy
CHUNK: Final = 64 << 10
IPV6_RECVPKTINFO: Final = 49  # linux/in6.h
IPV6_PKTINFO: Final = 50
IP_PKTINFO: Final = 8  # linux/in.h; struct in_pktinfo: index, address to answer from, destination
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT

_PKTINFO: Final = (IPV6_PKTINFO, IP_PKTINFO)

Target = tuple[str, int]
_Client = tuple[str, int, int, int] | tuple[str, int]


@dataclass(slots=True)
class _Relay:
    socket: socket.socket
    protocol: str
    target: Target
    pid: int = 0
    pidfd: int = -1


@dataclass(slots=True)
class Relays:
    """The sockets that wait for a first client, and the processes that serve one."""

    _relays: dict[int, _Relay] = field(default_factory=dict)  # by the socket's descriptor

    def add(self, sock: socket.socket, protocol: str, target: Target) -> None:
        """Serve `sock`, which stays the caller's, by connections to `target`."""
        if protocol not in ("tcp", "udp"):
            return
        sock.setblocking(False)
        if protocol == "tcp":
            sock.listen(BACKLOG)
        elif sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._relays[sock.fileno()] = _Relay(sock, protocol, target)

    def remove(self, sock: socket.socket) -> None:
        """Serve it no longer, and end its process."""
        relay = self._relays.pop(sock.fileno(), None)
        if relay and relay.pid:
            with suppress(ProcessLookupError):
                os.kill(relay.pid, signal.SIGKILL)
            self._reap(relay)

    def watched(self) -> list[int]:
        """Return the descriptors for `handle`, when they are readable."""
        return [relay.pidfd if relay.pid else number for number, relay in self._relays.items()]

    def handle(self, descriptor: int) -> None:
        """A first client has come, or a process has ended."""
        if relay := self._relays.get(descriptor):
            if not relay.pid:
                self._start(relay)
            return
        for relay in self._relays.values():
            if relay.pidfd == descriptor:
                self._reap(relay)
                return

    def _start(self, relay: _Relay) -> None:
        pid = os.fork()
        if not pid:
            try:
                _become_nobody(relay.socket)
                run = _relay_tcp if relay.protocol == "tcp" else _relay_udp
                run(relay.socket, relay.target)
            finally:
                os._exit(0)
        relay.pid, relay.pidfd = pid, os.pidfd_open(pid)
        log.debug("relay %d serves %s port %d", pid, *relay.target)

    def _reap(self, relay: _Relay) -> None:
        with suppress(ChildProcessError):
            os.waitpid(relay.pid, 0)
        os.close(relay.pidfd)
        relay.pid, relay.pidfd = 0, -1


def _become_nobody(sock: socket.socket) -> None:
    """Keep the socket and the log; lose the rest."""
    parent = os.getppid()
    keep = sock.fileno()
    close_range(3, keep - 1) if keep > 3 else None
    close_range(keep + 1)
    with suppress(PermissionError):  # not root: as a library
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    capabilities.capset(0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- TCP -------------------------------------------------------------------------------------


class _Side:
    """One end of a connection, and what waits to be sent to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.pending = b""
        self.has_ended = False  # it sent its last byte
        self.is_shut = False  # we passed on that the other one ended
        self.other: _Side = self

    def events(self) -> int:
        """Return what to wait for: reading stops while the other side does not take it."""
        reading = not self.has_ended and not self.other.pending
        return (_IN if reading else 0) | (_OUT if self.pending else 0)


def _relay_tcp(listener: socket.socket, target: Target) -> None:
    epoll = select.epoll()
    epoll.register(listener, _IN)
    sides: dict[int, _Side] = {}

    def refresh(side: _Side) -> None:
        # One shot: a side that hung up while the other is slow would be reported without end.
        if events := side.events():
            epoll.modify(side.socket, events | select.EPOLLONESHOT)

    def close(side: _Side) -> None:
        for one in (side, side.other):
            if sides.pop(one.socket.fileno(), None):
                epoll.unregister(one.socket)
                one.socket.close()

    def accept() -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            here, there = _Side(client), _Side(socket.socket())
            here.other, there.other = there, here
            for side in (here, there):
                side.socket.setblocking(False)
                side.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sides[side.socket.fileno()] = side
                epoll.register(side.socket, 0)
            if there.socket.connect_ex(target) not in (0, errno.EINPROGRESS):
                close(here)
                return
            # Writable means connected: until then nothing is read from the client.
            epoll.modify(there.socket, _OUT | select.EPOLLONESHOT)

    while True:
        ready = epoll.poll(-1 if sides else IDLE)
        if not ready and not sides:
            return
        for number, events in ready:
            if number == listener.fileno():
                accept()
            elif side := sides.get(number):
                try:
                    is_over = _move(side, events)
                except OSError:
                    is_over = True
                if is_over:
                    close(side)
                else:
                    refresh(side)
                    refresh(side.other)


def _move(side: _Side, events: int) -> bool:
    """Send and receive what is possible without waiting; tell whether both directions ended."""
    if events & _OUT and side.pending:
        side.pending = side.pending[side.socket.send(side.pending) :]
    if events & (_IN | select.EPOLLHUP | select.EPOLLERR) and not side.other.pending:
        data = side.socket.recv(CHUNK)
        side.has_ended = not data
        if data:
            try:
                data = data[side.other.socket.send(data) :]
            except BlockingIOError:
                pass
            side.other.pending = data
    for one in (side, side.other):
        if one.other.has_ended and not one.pending and not one.is_shut:
            one.socket.shutdown(socket.SHUT_WR)
            one.is_shut = True
    return side.is_shut and side.other.is_shut


# --- UDP -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Session:
    socket: socket.socket
    client: _Client
    local: list[tuple[int, int, bytes]]  # *_PKTINFO: answers come from the address asked
    last: float = 0.0


def _relay_udp(front: socket.socket, target: Target) -> None:
    epoll = select.epoll()
    epoll.register(front, _IN)
    sessions: dict[int, _Session] = {}
    by_client: dict[_Client, _Session] = {}

    def ask() -> None:
        data, ancillary, _, client = front.recvmsg(CHUNK, 64)
        session = by_client.get(client)
        if session is None:
            back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            back.setblocking(False)
            back.connect(target)
            local = [_answer_from(item) for item in ancillary if item[1] in _PKTINFO]
            session = by_client[client] = _Session(back, client, local)
            sessions[back.fileno()] = session
            epoll.register(back, _IN)
        session.last = time.monotonic()
        session.socket.send(data)

    def answer(session: _Session) -> None:
        session.last = time.monotonic()
        front.sendmsg([session.socket.recv(CHUNK)], session.local, 0, session.client)

    idle_since = time.monotonic()
    while sessions or time.monotonic() - idle_since < IDLE:
        for number, _ in epoll.poll(IDLE / 2):
            idle_since = time.monotonic()
            call: Callable[[], None] = ask
            if session := sessions.get(number):
                call = _bind(answer, session)
            with suppress(OSError):  # nobody listens there: the client's packet is lost
                call()
        _forget_old(sessions, by_client, epoll)


def _answer_from(item: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """Return what has the answer sent from the address that was asked, whatever the way."""
    level, kind, data = item
    if kind == IP_PKTINFO:
        data = bytes(4) + data[8:12] + bytes(4)  # ipi_spec_dst is what was asked
    return level, kind, data


def _bind(call: Callable[[_Session], None], session: _Session) -> Callable[[], None]:
    return lambda: call(session)


def _forget_old(
    sessions: dict[int, _Session],
    by_client: dict[_Client, _Session],
    epoll: select.epoll,
) -> None:
    before = time.monotonic() - UDP_SESSION
    for number, session in list(sessions.items()):
        if session.last < before:
            epoll.unregister(number)
            session.socket.close()
            del sessions[number], by_client[session.client]
