"""What the process of a relay does: it copies bytes until nobody has sent any for a while."""

from __future__ import annotations

import errno
import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

IDLE: Final = 30.0  # seconds without a client after which the process ends
UDP_SESSION: Final = 90.0  # seconds, moby cmd/docker-proxy
CHUNK: Final = 64 << 10
IPV6_PKTINFO: Final = 50  # linux/in6.h
IP_PKTINFO: Final = 8  # linux/in.h; struct in_pktinfo: index, address to answer from, destination

_PKTINFO: Final = (IPV6_PKTINFO, IP_PKTINFO)
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT

Target = tuple[str, int]
_Client = tuple[str, int, int, int] | tuple[str, int]


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


class TCPRelay:
    """Serves the clients of a listening socket by connections to `target`."""

    def __init__(self, listener: socket.socket, target: Target) -> None:
        self._listener, self._target = listener, target
        self._sides: dict[int, _Side] = {}
        self._epoll = select.epoll()
        self._epoll.register(listener, _IN)

    def run(self) -> None:
        """Relay until there has been no client for a while."""
        while ready := self._epoll.poll(-1 if self._sides else IDLE):
            for number, events in ready:
                if number == self._listener.fileno():
                    with suppress(OSError):
                        self._accept()
                elif side := self._sides.get(number):
                    self._serve(side, events)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        here, there = _Side(client), _Side(socket.socket())
        here.other, there.other = there, here
        for side in (here, there):
            side.socket.setblocking(False)
            side.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sides[side.socket.fileno()] = side
            self._epoll.register(side.socket, 0)
        if there.socket.connect_ex(self._target) not in (0, errno.EINPROGRESS):
            self._close(here)
            return
        # Writable means connected: until then nothing is read from the client.
        self._epoll.modify(there.socket, _OUT | select.EPOLLONESHOT)

    def _serve(self, side: _Side, events: int) -> None:
        try:
            is_over = _move(side, events)
        except OSError:
            is_over = True
        if is_over:
            self._close(side)
        else:
            self._refresh(side)
            self._refresh(side.other)

    def _refresh(self, side: _Side) -> None:
        # One shot: a side that hung up while the other is slow would be reported without end.
        if events := side.events():
            self._epoll.modify(side.socket, events | select.EPOLLONESHOT)

    def _close(self, side: _Side) -> None:
        for one in (side, side.other):
            if self._sides.pop(one.socket.fileno(), None):
                self._epoll.unregister(one.socket)
                one.socket.close()


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


class UDPRelay:
    """Passes packets on to `target`, and answers back: by a socket of its own for each client."""

    def __init__(self, front: socket.socket, target: Target) -> None:
        self._front, self._target = front, target
        self._sessions: dict[int, _Session] = {}
        self._by_client: dict[_Client, _Session] = {}
        self._epoll = select.epoll()
        self._epoll.register(front, _IN)

    def run(self) -> None:
        """Relay until there has been no packet for a while, and no session is left."""
        idle_since = time.monotonic()
        while self._sessions or time.monotonic() - idle_since < IDLE:
            for number, _ in self._epoll.poll(IDLE / 2):
                idle_since = time.monotonic()
                with suppress(OSError):  # nobody listens there: the client's packet is lost
                    if session := self._sessions.get(number):
                        self._answer(session)
                    else:
                        self._ask()
            self._forget_old()

    def _ask(self) -> None:
        data, ancillary, _, client = self._front.recvmsg(CHUNK, 64)
        session = self._by_client.get(client)
        if session is None:
            session = self._begin(client, ancillary)
        session.last = time.monotonic()
        session.socket.send(data)

    def _begin(self, client: _Client, ancillary: list[tuple[int, int, bytes]]) -> _Session:
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        back.setblocking(False)
        back.connect(self._target)
        local = [_answer_from(item) for item in ancillary if item[1] in _PKTINFO]
        session = self._by_client[client] = _Session(back, client, local)
        self._sessions[back.fileno()] = session
        self._epoll.register(back, _IN)
        return session

    def _answer(self, session: _Session) -> None:
        session.last = time.monotonic()
        self._front.sendmsg([session.socket.recv(CHUNK)], session.local, 0, session.client)

    def _forget_old(self) -> None:
        before = time.monotonic() - UDP_SESSION
        for number, session in list(self._sessions.items()):
            if session.last < before:
                self._epoll.unregister(number)
                session.socket.close()
                del self._sessions[number], self._by_client[session.client]


def _answer_from(item: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """Return what has the answer sent from the address that was asked, whatever the way."""
    level, kind, data = item
    if kind == IP_PKTINFO:
        data = bytes(4) + data[8:12] + bytes(4)  # ipi_spec_dst is what was asked
    return level, kind, data
