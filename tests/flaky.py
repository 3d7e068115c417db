"""A way to a server that can be bad: it breaks, refuses, lies about lengths, or leads nowhere.

with flaky(port) as way:
    way.become("cut", after=1000)      # every answer ends after so many bytes
    way.become("refuse", status=429)   # every request gets this answer
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"
REFUSAL = (
    "HTTP/1.1 {} Refused\r\nContent-Length: 0\r\nRetry-After: 3600\r\nConnection: close\r\n\r\n"
)


@dataclass
class Mood:
    """What happens to connections. `left` is how many it happens to; all, if it is negative."""

    kind: str = "good"  # good, away, hang, refuse, cut, vanish
    after: int = 0  # bytes of an answer that is cut, or of a connection's requests
    left: int = -1
    status: int = 500  # of refusals


@dataclass
class Way:
    """Takes connections and passes them on, each in two threads."""

    target: int
    mood: Mood = field(default_factory=Mood)
    listener: socket.socket = field(default_factory=lambda: socket.create_server((HOST, 0)))
    connections: int = 0
    _open: set[socket.socket] = field(default_factory=set)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _taken(self) -> Mood:
        mood = self.mood
        if mood.kind == "good" or mood.left == 0:
            return Mood()
        mood.left -= 1
        return mood

    def _pass(self, client: socket.socket) -> None:
        mood = self._taken()
        with client, contextlib.suppress(OSError):
            if mood.kind == "away":
                return
            if mood.kind in ("hang", "refuse"):
                self._open.add(client)
                client.recv(65536)
                if mood.kind == "refuse":
                    client.sendall(REFUSAL.format(mood.status).encode())
                    client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
                return
            with socket.create_connection((HOST, self.target)) as server:
                self._open |= {client, server}
                back = threading.Thread(target=self._answer, args=(server, client, mood))
                back.start()
                with contextlib.suppress(OSError):
                    self._ask(client, server, mood)
                back.join()
                self._open -= {client, server}

    def _ask(self, client: socket.socket, server: socket.socket, mood: Mood) -> None:
        sent = 0
        while piece := client.recv(65536):
            sent += len(piece)
            if mood.kind == "vanish" and sent > mood.after:
                for sock in (client, server):
                    sock.shutdown(socket.SHUT_RDWR)
                return
            server.sendall(piece)
        server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket, mood: Mood) -> None:
        left = mood.after
        with contextlib.suppress(OSError):
            while piece := server.recv(65536):
                if mood.kind == "cut":
                    piece, left = piece[:left], left - len(piece)
                client.sendall(piece)
                if mood.kind == "cut" and left <= 0:
                    break
        for sock in (client, server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Break the connections that are open, so that the next requests come by new ones."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def become(self, kind: str, after: int = 0, left: int = -1, status: int = 500) -> None:
        """Change, for new connections, and break the old ones."""
        self.mood = Mood(kind, after, left, status)
        self.forget()


@contextlib.contextmanager
def flaky(target: int) -> Iterator[Way]:
    way = Way(target)
    thread = threading.Thread(target=way.serve)
    thread.start()
    try:
        yield way
    finally:
        way.forget()
        with contextlib.suppress(OSError):
            way.listener.shutdown(socket.SHUT_RDWR)
        way.listener.close()
        thread.join()
