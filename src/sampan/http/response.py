"""Answers to HTTP requests, as data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

Header = tuple[str, str]


@dataclass(slots=True)
class Response:
    """An answer whose body is known; `content_type` is sent only with a body or a length."""

    status: int
    body: bytes = b""
    headers: list[Header] = field(default_factory=list)
    content_type: str = "application/json"


@dataclass(slots=True)
class StreamingResponse:
    """An answer whose body comes piece by piece: each piece is sent at once.

    Head and status go out before the first piece is asked for. If the iterator raises, the
    connection is cut, so that the client knows that the body is not complete.
    """

    status: int
    chunks: AsyncIterator[bytes]
    headers: list[Header] = field(default_factory=list)
    content_type: str = "application/json"
