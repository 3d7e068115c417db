"""Bodies that are too large, or never come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from sampan.registry import bodies as module
from sampan.registry.bodies import read_body


def read(pieces: Sequence[bytes], limit: int = 10, length: str = "", whole: bool = True) -> Any:
    """Read a body that comes in pieces; one that is not whole never ends."""
    headers = [(b"content-length", length.encode())] if length else []
    waiting = list(pieces)

    async def receive() -> dict[str, Any]:
        if not waiting and not whole:
            await asyncio.get_running_loop().create_future()
        piece = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": piece, "more_body": bool(waiting) or not whole}

    request = Request({"type": "http", "method": "PUT", "path": "/", "headers": headers}, receive)
    return asyncio.run(read_body(request, limit))


def test_a_body_is_read_up_to_its_limit() -> None:
    assert read([]) == b""
    assert read([b"12345", b"67890"]) == b"1234567890"
    assert read([b"12345", b"67890", b"1"]) is None
    assert read([b"12345"], length="11") is None
    assert read([b"12345"], length="5") == b"12345"


def test_a_body_that_never_comes_is_that_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.05)
    with pytest.raises(ClientDisconnect):
        read([b"1"], whole=False)
