"""What the readers of containers ask for: list, logs, attach."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """GET /containers/json."""

    all: bool = False
    limit: int = -1  # the newest so many, running or not; below 1 is no limit
    size: bool = False
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsQuery:
    """GET /containers/{id}/logs; times in nanoseconds since the epoch, 0 is none."""

    stdout: bool = False
    stderr: bool = False
    follow: bool = False
    since: int = 0
    until: int = 0
    timestamps: bool = False
    details: bool = False
    tail: int | None = None  # lines; None is all


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachQuery:
    """POST /containers/{id}/attach."""

    logs: bool = False
    stream: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: str = ""


@dataclass(slots=True, kw_only=True)
class Attachment:
    """A connection to the streams of a process. The receiver owns and closes `socket`.

    What the process writes comes as Docker's frames, or raw from a terminal; what is sent goes to
    its stdin. `backlog` is to be sent to the client first (the log, in the same framing).
    """

    socket: socket.socket | None  # None: only the log was asked for
    terminal: bool
    backlog: bytes = b""
