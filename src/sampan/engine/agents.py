"""The SSH agents of clients, behind sockets that steps of their builds have."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from sampan.errors import SampanError
from sampan.rpc import Fd
from sampan.spec.loan import LentAgent

log = logging.getLogger(__name__)
_AT_ONCE: Final = 32  # connections of one socket; more of them wait


@asynccontextmanager
async def forwarded(agents: Sequence[tuple[LentAgent, Fd]]) -> AsyncIterator[None]:
    """Serve sockets that listen, and end every connection of them in the end."""
    tasks = [asyncio.ensure_future(_accept(agent, sock)) for agent, sock in agents]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (fault := task.exception()) is not None:
                log.error("an SSH agent's socket broke", exc_info=fault)


async def _accept(agent: LentAgent, listening: Fd) -> None:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def serve(connection: socket.socket) -> None:
        try:
            await agent.forward(connection.fileno())
        except (SampanError, OSError) as error:
            log.debug("a connection with an SSH agent ended: %s", error)

    with socket.socket(fileno=listening.detach()) as sock:
        sock.setblocking(False)
        async with asyncio.TaskGroup() as group:
            while True:
                await turns.acquire()
                connection, _ = await asyncio.get_running_loop().sock_accept(sock)
                task = group.create_task(serve(connection))
                task.add_done_callback(partial(_leave, connection, turns))


def _leave(connection: socket.socket, turns: asyncio.Semaphore, _: object) -> None:
    connection.close()
    turns.release()
