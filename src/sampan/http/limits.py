"""How much a client may ask of the server: sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server; every time limit ends a connection that does not keep it."""

    head_bytes: int = 128 << 10  # request line and headers; Go allows 1 MiB, nobody needs it
    head_lines: int = 256  # request line and headers: 15,000 of them take ten milliseconds
    head_seconds: float = 30.0  # from the first byte of a request to the end of its headers
    idle_seconds: float = 300.0  # between two requests
    send_seconds: float = 120.0  # for one ordinary answer to be taken by the client
    drain_bytes: int = 256 << 10  # of an unread body that are skipped to keep a connection
    linger_seconds: float = 3.0  # for the client to read the last bytes before the close
    connections: int = 8192  # at the same time
    requests: int = 256  # of one client at the same time, where connections carry several
    grace_seconds: float = 10.0  # for running requests when the server stops


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How much a server may ask of the client; every time limit ends the exchange."""

    head_bytes: int = 64 << 10  # status line and headers
    connect_seconds: float = 30.0  # name, connection, proxy and TLS together
    answer_seconds: float = 60.0  # from the end of a request to the end of the answer's head
    document_seconds: float = 60.0  # for a body that is read as a whole
    stall_seconds: float = 60.0  # without progress of a large body
    stall_bytes: int = 16 << 10  # less than this in `stall_seconds` is no progress
    idle_seconds: float = 45.0  # a connection is kept for the next request
    idle_connections: int = 8  # kept per host
