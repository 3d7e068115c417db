"""Questions that nobody here can answer, passed on to servers outside and their answers back.

What passes through is not interpreted: types of records that did not exist when this was written,
and EDNS, work. Each question goes out from a port and with an id of its own, and only an answer to
that question, by that server, is believed.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sampan.network.resolver.loop import WRITE, Loop, Timer
from sampan.network.resolver.messages import MESSAGE, Malformed, parse
from sampan.spec.addresses import is_address

log = logging.getLogger(__name__)

PORT: Final = 53
PATIENCE: Final = 2.0  # seconds for one server, so that a second is asked before clients give up
SERVERS: Final = 3  # as many as a libc asks
AT_MOST: Final = 512  # questions that are out at a time
_SERVFAIL, _REFUSED = 2, 5

Done = Callable[[bytes], None]  # the answer; b"": nobody answered


class HostServers:
    """The servers that the host itself asks; read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._servers: list[str] = []

    def __call__(self) -> list[str]:
        """Return the addresses, in order."""
        try:
            about = os.stat(self._path)
            seen = (about.st_mtime_ns, about.st_size, about.st_ino)
            if seen != self._seen:
                self._servers = nameservers(self._path.read_text(errors="replace"))
                self._seen = seen
        except OSError:
            pass  # it is being replaced: what was there last counts
        return self._servers


def nameservers(text: str) -> list[str]:
    """Return the servers of a resolv.conf."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and is_address(words[1].partition("%")[0]):
            found.append(words[1])
    return found[:SERVERS]


class Forwarder:
    """All questions that are out."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.out = 0

    def ask(self, packet: bytes, servers: Sequence[str], *, stream: bool, done: Done) -> None:
        """Ask one server after the other; `done` is called once, perhaps at once."""
        if not servers or self.out >= AT_MOST:
            done(b"")
            return
        self.out += 1
        _Question(self, self._loop, packet, list(servers[:SERVERS]), stream, done).next()


class _Question:
    def __init__(
        self,
        owner: Forwarder,
        loop: Loop,
        packet: bytes,
        servers: list[str],
        stream: bool,
        done: Done,
    ) -> None:
        self._owner, self._loop, self._servers, self._done = owner, loop, servers, done
        self._asked_by = packet[:2]
        self._stream = stream
        self._id = os.urandom(2)
        self._packet = self._id + packet[2:]
        self._wire = parse(packet).wire.lower()
        self._refusal = b""  # of a server that cannot say; the last one's counts
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._buffer = b""

    def next(self) -> None:
        """Ask the next server, or give up."""
        self._close()
        while self._servers:
            server = self._servers.pop(0)
            try:
                self._begin(server)
            except OSError as error:
                log.debug("the name server %s cannot be asked: %s", server, error)
                self._close()
                continue
            self._timer = self._loop.later(PATIENCE, self.next)
            return
        self._finish(self._refusal)

    def _begin(self, server: str) -> None:
        kind = socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            server, PORT, type=kind, flags=socket.AI_NUMERICHOST
        )
        self._socket = sock = socket.socket(family, kind)
        sock.setblocking(False)
        if (error := sock.connect_ex(address)) not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
        if self._stream:
            self._buffer = b""
            self._loop.watch(sock, self._connected, WRITE)
        else:
            sock.send(self._packet)
            self._loop.watch(sock, self._datagram)

    def _datagram(self) -> None:
        assert self._socket
        try:
            answer = self._socket.recv(MESSAGE)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self.next()
            return
        if self._is_answer(answer):
            self._take(answer)

    def _connected(self) -> None:
        assert self._socket
        try:
            # A question fits into the buffer of a new connection.
            self._socket.sendall(len(self._packet).to_bytes(2, "big") + self._packet)
        except OSError:
            self.next()
            return
        self._loop.watch(self._socket, self._received)

    def _received(self) -> None:
        assert self._socket
        try:
            data = self._socket.recv(MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._buffer += data
        length = int.from_bytes(self._buffer[:2], "big")
        if len(self._buffer) >= 2 + length and length:
            answer = self._buffer[2 : 2 + length]
            self._take(answer) if self._is_answer(answer) else self.next()
        elif not data:
            self.next()

    def _is_answer(self, answer: bytes) -> bool:
        """Tell whether it answers what we asked; a guess from elsewhere does not."""
        if len(answer) < 12 or answer[:2] != self._id or not answer[2] & 0x80:
            return False
        if not int.from_bytes(answer[4:6], "big"):
            return True  # a refusal need not repeat the question
        try:
            # The same bytes with the bit that says "answer" cleared read as a question.
            asked = parse(answer[:2] + bytes([answer[2] & 0x01, answer[3]]) + answer[4:])
        except Malformed:
            return False
        return asked.wire.lower() == self._wire

    def _take(self, answer: bytes) -> None:
        answer = self._asked_by + answer[2:]
        if answer[3] & 0x0F in (_SERVFAIL, _REFUSED) and self._servers:
            self._refusal = answer
            self.next()
        else:
            self._finish(answer)

    def _finish(self, answer: bytes) -> None:
        self._close()
        self._owner.out -= 1
        self._done(answer)

    def _close(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._socket:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None
