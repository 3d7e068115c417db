"""Waiting for the end of a container: registered at once, awaited later."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from sampan.engine.container import Container
from sampan.errors import InvalidArgument
from sampan.spec.docker.containers import WaitError, WaitResponse

CONDITIONS = ("", "not-running", "next-exit", "removed")


@dataclass(slots=True)
class Waiter:
    """One client that waits."""

    container: Container
    future: asyncio.Future[int]

    async def wait(self) -> WaitResponse:
        """Return the exit code when the condition has come true."""
        code = await self.future
        error = self.container.record.error
        return WaitResponse(
            status_code=code, error=WaitError(message=error) if error else msgspec.UNSET
        )


def wait_for(container: Container, condition: str) -> Waiter:
    """Register for a condition; an end after this call is not missed."""
    if condition not in CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    if condition == "removed":
        container.removals.append(future)
    elif condition == "next-exit" or container.running or container.restarting:
        container.exits.append(future)
    else:
        future.set_result(container.record.exit_code)
    return Waiter(container, future)


def settle(futures: list[asyncio.Future[int]], exit_code: int) -> None:
    """Tell everybody who waits, and forget them."""
    for future in futures:
        if not future.done():
            future.set_result(exit_code)
    futures.clear()
