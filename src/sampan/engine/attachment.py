"""What attach, logs and exec hand to a face: sockets and framed bytes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sampan.logs.stream import NUMBERS, frame  # noqa: F401 - re-exported for faces


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachQuery:
    """What a client wants of the streams of a container."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = False  # follow what comes; else only `logs`
    logs: bool = False  # first what was written before


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsQuery:
    """What a client wants of the log; times in nanoseconds since the epoch, 0 is none."""

    stdout: bool = False
    stderr: bool = False
    follow: bool = False
    since: int = 0
    until: int = 0
    timestamps: bool = False
    details: bool = False
    tail: int | None = None  # None: all


@dataclass(slots=True, kw_only=True)
class Attachment:
    """Streams that a face connects with its client.

    First all of `history` (the log, framed like the rest), then what the socket carries: Docker's
    frames, or raw bytes if there is a `terminal`. What is sent to the socket is stdin;
    shutdown(SHUT_WR) is its end. The caller closes it. None: nothing follows the history.
    """

    terminal: bool
    history: AsyncIterator[bytes] | None = None
    socket: socket.socket | None = None


@dataclass(slots=True, kw_only=True)
class LogStream:
    """A log on its way: framed for a container without a terminal, else raw."""

    terminal: bool
    content: AsyncIterator[bytes]
