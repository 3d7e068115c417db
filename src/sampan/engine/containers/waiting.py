"""Waiting for the end of a container: registered at once, awaited later."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from msgspec import UNSET

from sampan.engine.containers.container import Container
from sampan.errors import InvalidArgument
from sampan.spec.docker.containers import WaitError, WaitResponse

CONDITIONS = ("", "not-running", "next-exit", "removed")


@dataclass(slots=True)
class Waiter:
    """One client that waits."""

    future: asyncio.Future[WaitResponse]

    async def wait(self) -> WaitResponse:
        """Return how the container ended, when the condition has come true."""
        return await self.future


def wait_for(container: Container, condition: str) -> Waiter:
    """Register for a condition; an end after this call is not missed."""
    if condition not in CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    future: asyncio.Future[WaitResponse] = asyncio.get_running_loop().create_future()
    if condition == "removed":
        container.removals.append(future)
    elif condition == "next-exit" or container.running or container.restarting:
        container.exits.append(future)
    else:
        future.set_result(_answer(container))
    return Waiter(future)


def settle_exits(container: Container) -> None:
    """Tell everybody who waits for the next exit how the container ended."""
    _settle(container.exits, _answer(container))


def settle_removal(container: Container) -> None:
    """Tell everybody who still waits that the container is gone; an old error is no news."""
    answer = WaitResponse(status_code=container.record.exit_code)
    _settle(container.exits, answer)
    _settle(container.removals, answer)


def _settle(futures: list[asyncio.Future[WaitResponse]], answer: WaitResponse) -> None:
    for future in futures:
        if not future.done():
            future.set_result(answer)
    futures.clear()


def _answer(container: Container) -> WaitResponse:
    error = container.record.error
    return WaitResponse(
        status_code=container.record.exit_code, error=WaitError(message=error) if error else UNSET
    )
