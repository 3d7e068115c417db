"""One attached client: its socket, what it may write to stdin, what it has not read yet."""

from __future__ import annotations

import select
import socket
from typing import Protocol

from sampan.logs.stream import HEADER
from sampan.runtime.spawning.loop import Loop

INPUT = 64 << 10  # read at once
_GONE = select.EPOLLHUP | select.EPOLLERR
# A pause must not spin on a hang-up, which epoll reports unasked: told once, by the edge.
_PAUSED = select.EPOLLET


class Feed(Protocol):
    """The task that a client is attached to."""

    @property
    def started(self) -> bool:
        """Tell whether the streams are there."""

    @property
    def takes_input(self) -> bool:
        """Tell whether clients' input is wanted now."""

    def put(self, data: bytes) -> None:
        """Take input for stdin."""

    def input_ended(self, client: Client) -> None:
        """Hear that a client sends no more input."""

    def flushed(self) -> None:
        """Hear that a client has read all that it was sent."""

    def drop(self, client: Client) -> None:
        """Forget a client that is gone."""


class Client:
    """Belongs to one hub at a time; after the end of its task it only empties its buffer."""

    __slots__ = ("_all", "_loop", "_mask", "_sock", "hub", "input_open", "pending", "wants")

    def __init__(
        self,
        loop: Loop,
        hub: Feed,
        everybody: set[Client],
        sock: socket.socket,
        wants: frozenset[int],
        *,
        stdin: bool,
    ) -> None:
        """`everybody` has the client in it as long as its connection is open."""
        sock.setblocking(False)
        self._loop, self._sock, self._mask = loop, sock, -1
        self.hub: Feed | None = hub
        self.wants = wants
        self.input_open = stdin
        self.pending = bytearray()
        self._all = everybody
        self._all.add(self)
        self.update()

    def offer(self, number: int, data: bytes, *, framed: bool) -> None:
        """Send output; what the socket does not take waits in `pending`."""
        if number not in self.wants:
            return
        parts = [HEADER.pack(number, len(data)), data] if framed else [data]
        if self.pending:
            self.pending += b"".join(parts)
            return
        try:
            sent = self._sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.deaf()
            return
        if sent < sum(map(len, parts)):
            self.pending += b"".join(parts)[sent:]
            self.update()

    def deaf(self) -> None:
        """The client does not read any more."""
        self.wants = frozenset()
        self.pending.clear()
        self.update()

    def update(self) -> None:
        """Watch for what can be done now."""
        reads = self.input_open and (self.hub is not None and self.hub.takes_input)
        paused = self.input_open and not reads
        mask = (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if self.pending else 0)
        mask |= _PAUSED if paused else 0
        if mask != self._mask:
            self._loop.watch(self._sock.fileno(), mask, self._on_event)
            self._mask = mask

    def finish(self) -> None:
        """The task is over: the client gets what is pending, then the end."""
        self.hub = None
        self.input_open = False
        if self.pending:
            self.update()
        else:
            self.close()

    def close(self) -> None:
        """End the connection. shutdown(2) reaches through duplicates that a child may hold.

        Input that nobody wanted is read first: a socket that is closed over unread data resets
        its peer, who then reads ECONNRESET where the end should be.
        """
        if self._sock.fileno() < 0:
            return
        self._all.discard(self)
        self._loop.forget(self._sock.fileno())
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
            while self._sock.recv(INPUT):
                pass
        except OSError:
            pass  # the client was first
        self._sock.close()
        self.pending.clear()

    def abandon(self) -> None:
        """Close the descriptor only: this process is not the keeper any more."""
        self._sock.close()

    def _on_event(self, events: int) -> None:
        if self.pending and events & (select.EPOLLOUT | _GONE):
            self._flush()
        if self._mask & select.EPOLLIN and events & (select.EPOLLIN | _GONE):
            self._read()
        elif events & _GONE and not (self.input_open and self.hub and self.hub.started):
            self._leave()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self.pending)
        except BlockingIOError:
            return
        except OSError:
            self.pending.clear()
            self.wants = frozenset()
        else:
            del self.pending[:sent]
        if self.pending:
            return
        if self.hub is None:
            self.close()
            return
        self.update()
        self.hub.flushed()

    def _read(self) -> None:
        try:
            data = self._sock.recv(INPUT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self.hub is None:
            return
        if data:
            self.hub.put(data)
            return
        self.input_open = False
        self.update()
        self.hub.input_ended(self)

    def _leave(self) -> None:
        hub = self.hub
        self.close()
        if hub:
            hub.drop(self)
