"""The HTTP server: listening sockets, connections, limits and a graceful stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Self

from sampan.http.connection import Connection, Handler, Refusal, plain_refusal
from sampan.http.limits import Limits
from sampan.http.peers import owner
from sampan.http.stream import SocketStream, Stream, TLSStream
from sampan.http.tls import TLSContext

log = logging.getLogger(__name__)
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPTS_AT_ONCE = 64  # so that a flood of clients does not starve those who are there
PAUSE_SECONDS = 0.5  # of accepting when descriptors have run out
FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Server:
    """Serves one handler on any number of listening sockets.

    `headers` are sent with every answer; `refuse` makes the answer to what is no HTTP. With `http2`
    the handler takes connections over that begin with HTTP/2 (Request.is_http2), which are refused
    otherwise.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        headers: list[tuple[str, str]] | None = None,
        refuse: Refusal = plain_refusal,
        limits: Limits | None = None,
        http2: bool = False,
    ) -> None:
        self._handler = handler
        self._http2 = http2
        self._headers = [(name.encode(), value.encode()) for name, value in headers or []]
        self._refuse = refuse
        self.limits = limits or Limits()
        self._listeners: list[tuple[socket.socket, TLSContext | None]] = []
        self._connections: dict[asyncio.Task[None], Connection | None] = {}
        self._by_owner: dict[str, dict[asyncio.Task[None], None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def listen(self, sock: socket.socket, tls: TLSContext | None = None) -> None:
        """Accept clients on a listening socket, which the server then owns."""
        sock.setblocking(False)
        self._listeners.append((sock, tls))
        self._resume(sock, tls)

    def _resume(self, sock: socket.socket, tls: TLSContext | None) -> None:
        if sock.fileno() >= 0:
            asyncio.get_running_loop().add_reader(sock.fileno(), self._accept, sock, tls)

    def _accept(self, sock: socket.socket, tls: TLSContext | None) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                client, place = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_RESOURCES:
                    log.warning("no client can be accepted for now: %s", error)
                    loop = asyncio.get_running_loop()
                    loop.remove_reader(sock.fileno())
                    loop.call_later(PAUSE_SECONDS, self._resume, sock, tls)
                    return
                continue  # ECONNABORTED: the client was gone before it was accepted
            who = owner(str(place[0])) if isinstance(place, tuple) else ""
            if len(self._connections) >= self.limits.connections and not self._make_room(who):
                self._turn_away(client)
                continue
            self.serve(client, tls, who)

    def _make_room(self, newcomer: str) -> bool:
        """End a connection of whoever has most of them, unless that is the newcomer."""
        most = max(self._by_owner, key=lambda one: len(self._by_owner[one]), default="")
        theirs = self._by_owner.get(most, {})
        if len(theirs) <= len(self._by_owner.get(newcomer, {})) + 1:
            return False
        idle = (task for task in theirs if (at := self._connections[task]) is None or at.idle)
        leaving = next(idle, next(iter(theirs)))
        del theirs[leaving]  # it is no longer counted, and takes some moments to end
        leaving.cancel()
        return True

    def _turn_away(self, client: socket.socket) -> None:
        with client:
            client.setblocking(False)
            try:
                client.send(FULL)
            except OSError:
                pass

    def serve(self, client: socket.socket, tls: TLSContext | None = None, who: str = "") -> None:
        """Serve one connected socket, which the server then owns; `who` has it."""
        task = asyncio.get_running_loop().create_task(self._run(client, tls))
        self._connections[task] = None
        self._by_owner.setdefault(who, {})[task] = None
        task.add_done_callback(lambda task: self._ended(task, who))

    async def _run(self, client: socket.socket, tls: TLSContext | None) -> None:
        with client:
            raw = SocketStream(client)
            stream: Stream = raw
            if tls is not None:
                try:
                    stream = await TLSStream.accept(raw, tls)
                except (OSError, TimeoutError) as error:
                    log.info("TLS handshake failed: %s", error)
                    return
            connection = self._connect(stream)
            task = asyncio.current_task()
            if task is not None:
                self._connections[task] = connection
            await connection.run()

    def _connect(self, stream: Stream) -> Connection:
        return Connection(
            stream, self._handler, self.limits, self._headers, self._refuse, http2=self._http2
        )

    def _ended(self, task: asyncio.Task[None], who: str) -> None:
        self._connections.pop(task, None)
        if theirs := self._by_owner.get(who):
            theirs.pop(task, None)
        if not theirs:
            self._by_owner.pop(who, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("a connection failed", exc_info=error)

    def close_listeners(self) -> None:
        """Accept no more clients."""
        for sock, _ in self._listeners:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._listeners.clear()

    async def stop(self) -> None:
        """Accept no more, end what is idle or endless, and give the rest time to finish."""
        self.close_listeners()
        for task, connection in list(self._connections.items()):
            if connection is None or connection.idle or connection.endless:
                task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=self.limits.grace_seconds)
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=self.limits.linger_seconds)
