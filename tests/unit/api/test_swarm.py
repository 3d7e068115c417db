"""What an engine that is in no swarm answers to the swarm's calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

With = Callable[[Callable[[Any, Any], Any]], None]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/swarm", 503, "This node is not a swarm manager."),
        ("POST", "/swarm/leave?force=1", 503, "This node is not part of a swarm"),
        ("POST", "/swarm/unlock", 409, "swarm is not locked"),
        ("POST", "/swarm/init", 501, "cannot be part of a swarm"),
        ("GET", "/services/web/logs", 503, "This node is not a swarm manager."),
        ("GET", "/v1.41/nodes", 503, "This node is not a swarm manager."),
        ("DELETE", "/secrets/x", 503, "This node is not a swarm manager."),
    ],
)
def test_an_engine_in_no_swarm_says_so(
    with_api: With, method: str, path: str, status: int, words: str
) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask(method, path)
        assert reply.status == status
        assert words in reply.message

    with_api(client)
