from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sampan.http.request import Exchange, Headers, Request
from sampan.http.stream import Stream
from sampan.registry.observability.health import Health
from sampan.registryd.debugging import handler


def ask(health: Health, method: str, path: str, **headers: str) -> int:
    async def chunks() -> AsyncIterator[bytes]:
        yield b""

    async def take_over(head: bytes) -> Stream:
        raise AssertionError

    given = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    exchange = Exchange(chunks, take_over, lambda: None)
    request = Request(method, path, Headers(given), exchange)
    return asyncio.run(handler(health, None, "")(request)).status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1:5001", "origin": "http://127.0.0.1:5001"}, 200),
        ({"host": "127.0.0.1:5001", "origin": "https://evil.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
    ],
)
def test_no_page_of_another_site_takes_the_registry_down(
    headers: dict[str, str], status: int
) -> None:
    health = Health()
    assert ask(health, "POST", "/debug/health/down", **headers) == status
    assert health.down_by_hand == (status == 200)
    assert ask(health, "GET", "/debug/health") == (503 if status == 200 else 200)
