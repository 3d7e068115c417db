"""Whatever a server sends, a client raises a Fault or returns, and nothing is left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.http.client import Client
from sampan.http.faults import Fault
from tests.scripted import Peer, get, poured, run, scripted

LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.0 204 x", b"HTTP/1.1 100 Continue", b"HTTP/1.1 206 ",
     b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 99999999999999999999",
     b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Connection: close",
     b"", b"5", b"hello", b"0", b"fffffffffffffffff", b"X: " + b"y" * 70_000, b"\x00", b" folded"]
)  # fmt: skip
ANSWERS = st.lists(LINES, max_size=12).map(lambda lines: b"\r\n".join(lines) + b"\r\n")


@given(answer=ANSWERS | st.binary(max_size=300))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("work", [get, poured])
def test_no_answer_is_more_than_a_fault(work: Any, answer: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(answer)

    async def twice(client: Client) -> None:
        for _ in range(2):
            try:
                await work(client, f"http://{server.address}/")
            except Fault:
                continue

    with scripted(script) as server:
        run(twice)
