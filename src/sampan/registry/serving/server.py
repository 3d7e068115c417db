"""What a server of the registry is: Server, which two modules beside this one are."""

from __future__ import annotations

import socket
from typing import Protocol, Self

from sampan.http.limits import Limits
from sampan.http.tls import TLS

BACKLOG = 512
PATHSEND = "http.response.pathsend"  # of granian: a whole file by its name
LIMITS = Limits(head_bytes=64 << 10, grace_seconds=1.0)


class Server(Protocol):
    """Serves an application on one listening socket until it is stopped."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def ended(self) -> None:
        """Return when the server has stopped; raise what stopped it."""

    def renew(self, tls: TLS) -> None:
        """Meet new clients with other certificates; those who are there keep what they have."""

    def move(self, listener: socket.socket) -> None:
        """Accept clients on another socket, and no longer on that of before."""

    def stop(self) -> None:
        """Accept no more clients and end when those who are there have been served."""
