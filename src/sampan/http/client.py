"""An asynchronous HTTP/1.1 client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How much a server may ask of the client: sizes in bytes, times in seconds."""

    head_bytes: int = 64 << 10  # status line and headers
    connect_seconds: float = 30.0  # name, connection, proxy and TLS together
    answer_seconds: float = 60.0  # from the end of a request to the end of the answer's head
    stall_seconds: float = 60.0  # without a byte of a body
    idle_seconds: float = 60.0  # a connection is kept for the next request
    idle_connections: int = 8  # kept per host
