"""The head of an answer that is followed by the streams of a process."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from sampan.api.hijack import head_was_read
from sampan.http.stream import SocketStream


def test_output_waits_for_a_client_that_is_slow_to_read_the_head() -> None:
    """One that a busy machine lets wait would lose what comes together with the head."""

    async def main(ours: socket.socket, theirs: socket.socket) -> None:
        ours.sendall(b"head")
        waiting = asyncio.ensure_future(head_was_read(SocketStream(ours)))
        await asyncio.wait([waiting], timeout=0.5)
        assert not waiting.done()
        assert theirs.recv(4) == b"head"
        await asyncio.wait_for(waiting, 5)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.run(main(ours, theirs))


def test_output_does_not_wait_for_a_client_that_is_gone() -> None:
    async def main() -> None:
        await asyncio.wait_for(head_was_read(SocketStream(ours)), 5)

    ours, theirs = socket.socketpair()
    with contextlib.closing(ours):
        ours.sendall(b"head")
        theirs.close()
        asyncio.run(main())
