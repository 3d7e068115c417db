"""The resolver itself: containers' sockets on one side, names and servers on the other."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from sampan import rpc
from sampan.network.resolver import messages
from sampan.network.resolver.contract import Client, Record, Resolver
from sampan.network.resolver.forwarding import Forwarder, HostServers
from sampan.network.resolver.loop import WRITE, Loop, Timer
from sampan.network.resolver.messages import MESSAGE, Malformed, Question
from sampan.network.resolver.zones import Zones
from sampan.rpc import Fd

log = logging.getLogger(__name__)

BATCH: Final = 32  # datagrams of one client before the others have their turn
CONNECTIONS: Final = 32  # of one client at a time
FORWARDED: Final = 100  # questions of one client that are out at a time
IDLE: Final = 10.0  # seconds after which a TCP connection is closed
ABANDONED: Final = 5.0  # seconds between looks whether a successor of the helper could come
UNSENT: Final = 1 << 18  # bytes that wait for a TCP client before it is given up
Reply = Callable[[bytes], None]


@dataclass(slots=True, eq=False)
class _Served:
    """One container's sockets."""

    container_id: str
    udp: socket.socket
    tcp: socket.socket
    connections: set[_Connection] = field(default_factory=set)
    forwarded: int = 0


class Server:
    """Implements the `Resolver` contract on a loop."""

    def __init__(self, loop: Loop, resolv_conf: Path) -> None:
        self._loop = loop
        self._host_servers = HostServers(resolv_conf)
        self._zones = Zones()
        self._served: dict[str, _Served] = {}
        self._forwarder = Forwarder(loop)

    # --- the contract --------------------------------------------------------------------------

    def clients(self) -> list[str]:
        """Return the ids of the containers that are served."""
        return list(self._served)

    def serve(self, client: Client, sockets: list[Fd]) -> None:
        """Serve a container on a bound UDP and a listening TCP socket."""
        udp, tcp = [socket.socket(fileno=_copy(fd)) for fd in sockets]
        self._close(client.container_id)
        for sock in (udp, tcp):
            sock.setblocking(False)
        served = _Served(client.container_id, udp, tcp)
        self._served[client.container_id] = served
        self._zones.clients[client.container_id] = client
        self._loop.watch(udp, partial(self._datagrams, served))
        self._loop.watch(tcp, partial(self._accept, served))

    def update(self, clients: list[Client], records: list[Record]) -> None:
        """Note what clients may find, and who is found."""
        for client in clients:
            self._zones.clients[client.container_id] = client
        for record in records:
            self._zones.note(record)

    def forget(self, clients: list[str], records: list[str]) -> None:
        """Close the sockets of clients, and find records no longer."""
        for container_id in clients:
            self._zones.clients.pop(container_id, None)
            self._close(container_id)
        for endpoint_id in records:
            self._zones.drop(endpoint_id)

    def keep(self, clients: list[str], records: list[str]) -> None:
        """Forget all but these."""
        self._zones.keep(clients, records)
        for container_id in self._served.keys() - set(clients):
            self._close(container_id)

    def _close(self, container_id: str) -> None:
        if served := self._served.pop(container_id, None):
            for connection in list(served.connections):
                connection.close()
            for sock in (served.udp, served.tcp):
                self._loop.forget(sock)
                sock.close()

    # --- questions -----------------------------------------------------------------------------

    def _datagrams(self, served: _Served) -> None:
        udp = served.udp
        for _ in range(BATCH):
            try:
                packet, sender = udp.recvfrom(MESSAGE)
            except OSError:  # no more for now; or an answer that could not be delivered
                return
            self._answer(served, packet, partial(_send_to, udp, sender), stream=False)

    def _accept(self, served: _Served) -> None:
        try:
            sock, _ = served.tcp.accept()
        except OSError:
            return
        if len(served.connections) >= CONNECTIONS:
            sock.close()
            return
        served.connections.add(_Connection(self._loop, sock, served, self._answer))

    def _answer(self, served: _Served, packet: bytes, reply: Reply, *, stream: bool) -> None:
        """Answer one message, now or later; `reply` of a socket that was closed does nothing."""
        try:
            question = messages.parse(packet)
        except Malformed as error:
            if error.answer:
                reply(error.answer)
            return
        client = self._zones.clients.get(served.container_id)
        if client is None:
            return
        limit = MESSAGE if stream else 0
        known = self._known(client, question) if question.klass == messages.IN else None
        if known is not None:
            reply(messages.answer(question, known, limit=limit))
        elif client.forwards and served.forwarded < FORWARDED:
            self._forward(served, client, packet, question, reply, stream)
        else:
            reply(messages.answer(question, code=messages.SERVFAIL))

    def _known(self, client: Client, question: Question) -> list[bytes] | None:
        """Return the data of an answer from our own names; None if others are to be asked."""
        if question.kind == messages.PTR:
            address = messages.address_of(question.name)
            pointer = self._zones.pointer(client, address) if address else None
            return None if pointer is None else [pointer]
        ipv6 = question.kind == messages.AAAA
        found = self._zones.addresses(client, question.name, ipv6=ipv6)
        if found is None or ipv6 or question.kind == messages.A:
            return found
        return []  # it exists and has nothing of this type: nobody outside knows better

    def _forward(
        self,
        served: _Served,
        client: Client,
        packet: bytes,
        question: Question,
        reply: Reply,
        stream: bool,
    ) -> None:
        def done(answer: bytes) -> None:
            served.forwarded -= 1
            reply(answer or messages.answer(question, code=messages.SERVFAIL))

        served.forwarded += 1
        servers = client.servers or self._host_servers()
        self._forwarder.ask(packet, servers, stream=stream, done=done)


class _Connection:
    """A client by TCP: messages with their length before them, answered in any order."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        served: _Served,
        answer: Callable[..., None],
    ) -> None:
        self._loop, self._socket, self._served, self._answer = loop, sock, served, answer
        self._in = self._out = b""
        self._timer: Timer | None = None
        sock.setblocking(False)
        self._wait()

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.later(IDLE, self.close)
        # One who does not take its answers is not listened to.
        if self._out:
            self._loop.watch(self._socket, self._send, WRITE)
        else:
            self._loop.watch(self._socket, self._receive)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._in += data
        while len(self._in) >= 2:
            end = 2 + int.from_bytes(self._in[:2], "big")
            if len(self._in) < end:
                break
            packet, self._in = self._in[2:end], self._in[end:]
            self._answer(self._served, packet, self._reply, stream=True)
        if self in self._served.connections:
            self._wait()

    def _reply(self, answer: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        self._out += len(answer).to_bytes(2, "big") + answer
        if len(self._out) > UNSENT:
            self.close()
        else:
            self._send()

    def _send(self) -> None:
        try:
            self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._wait()

    def close(self) -> None:
        """End the connection."""
        if self._timer:
            self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket)
            self._socket.close()
        self._served.connections.discard(self)


def _send_to(udp: socket.socket, receiver: object, answer: bytes) -> None:
    with suppress(OSError):  # closed meanwhile, or its buffer is full: clients ask again
        udp.sendto(answer, receiver)  # type: ignore[call-overload]


def _copy(fd: Fd) -> int:
    return socket.dup(fd.number)


# --- who tells it what to do -------------------------------------------------------------------


class Control:
    """The network helper's connection; a new one takes the place of the old."""

    def __init__(
        self, loop: Loop, server: Server, listener: socket.socket | None, folder: int = -1
    ) -> None:
        """`folder` is a descriptor of that of the listener."""
        self._loop, self._server, self._listener = loop, server, listener
        self._folder = folder
        self._contract = rpc.Contract(Resolver)
        self._connection: rpc.Connection | None = None
        if listener:
            loop.watch(listener, self._accept)

    @property
    def is_idle(self) -> bool:
        """Whether nobody would miss this process."""
        if self._connection:
            return False
        if self._listener is None or not self._server.clients():
            return True
        # Nobody can find it again once the folder of its socket has been removed.
        return self._folder >= 0 and os.fstat(self._folder).st_nlink == 0

    def connect(self, sock: socket.socket) -> None:
        """Answer calls on a socket."""
        self._hang_up()
        self._connection = rpc.Connection(sock, self._contract, self._server)
        self._loop.watch(sock, self._call)

    def _accept(self) -> None:
        assert self._listener
        self.connect(self._listener.accept()[0])

    def _call(self) -> None:
        if self._connection and not self._connection.answer_one():
            self._hang_up()

    def _hang_up(self) -> None:
        if self._connection:
            self._loop.forget(self._connection)
            self._connection.sock.close()
            self._connection = None
            self._loop.later(ABANDONED, self._look_around)

    def _look_around(self) -> None:
        """Have `is_idle` asked from time to time as long as there is no helper."""
        if self._connection is None:
            self._loop.later(ABANDONED, self._look_around)
