"""Transfers of layers: so many at once, and each of them shared by all who need it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sampan.distribution.credentials import Credentials
from sampan.engine.images.reports import Report
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference


class Closable(Protocol):
    """What a transfer gives to those who share it."""

    def close(self) -> None:
        """Give up what it holds; called when nobody shares it any more."""


T = TypeVar("T", bound=Closable)
Tell = Callable[[Callable[[Report], None]], None]
"""Passes a call on to the report of everybody who waits for the transfer."""


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """How many layers are transferred at once, by all pulls and by all pushes; 0: no limit."""

    downloads: int = 3
    uploads: int = 5


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """What one client wants to have pulled or pushed."""

    reference: Reference
    platform: Platform | None = None
    credentials: Credentials | None = None


class Slots:
    """So many at once (0: any number); the limit may change while they are in use."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def one(self, waits: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Hold one; `waits` is called if it is not to be had at once."""
        if self._is_full() or self._waiting:
            waits()
            await self._turn()
        else:
            self._used += 1
        try:
            yield
        finally:
            self._used -= 1
            self._wake()

    def resize(self, limit: int) -> None:
        """Change the limit; who holds one keeps it."""
        self.limit = limit
        self._wake()

    def _is_full(self) -> bool:
        return 0 < self.limit <= self._used

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled():
                self._used -= 1  # it was ours already
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and not self._is_full():
            turn = self._waiting.popleft()
            if not turn.done():
                self._used += 1
                turn.set_result(None)


class _Shared(Generic[T]):
    """One transfer: its task, who waits, and what was told of it last."""

    def __init__(self, work: Callable[[Tell], Awaitable[T]]) -> None:
        self.reports: list[Report] = []
        self._last: Callable[[Report], None] | None = None
        self.task: asyncio.Future[T] = asyncio.ensure_future(work(self._tell))

    def join(self, report: Report) -> None:
        self.reports.append(report)
        if self._last is not None:
            self._last(report)

    def _tell(self, message: Callable[[Report], None]) -> None:
        self._last = message
        for report in self.reports:
            message(report)

    async def end(self) -> None:
        """Cancel the transfer, if it still runs, and give up what it holds."""
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled() and self.task.exception() is None:
            self.task.result().close()


class Transfers(Generic[T]):
    """Transfers that are under way or whose result is in use, by key."""

    def __init__(self) -> None:
        self._running: dict[str, _Shared[T]] = {}
        self._ending: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def sharing(
        self, key: str, work: Callable[[Tell], Awaitable[T]], report: Report
    ) -> AsyncIterator[T]:
        """Give the result of `work`, which is done once for all who ask for the same key.

        It is cancelled when the last of them is cancelled, and its result is closed when the last
        of them has left. What it tells goes to the reports of all.
        """
        while (ending := self._ending.get(key)) is not None:
            await ending.wait()
        shared = self._running.get(key)
        if shared is None:
            shared = self._running[key] = _Shared(work)
        shared.join(report)
        try:
            yield await asyncio.shield(shared.task)
        finally:
            shared.reports.remove(report)
            failed = shared.task.done() and (shared.task.cancelled() or shared.task.exception())
            if failed and self._running.get(key) is shared:
                del self._running[key]  # the next one tries again
            if not shared.reports:
                await self._end(key, shared)

    def forget(self, key: str) -> None:
        """Let the next who asks begin anew; what is shared now stays so."""
        self._running.pop(key, None)

    async def _end(self, key: str, shared: _Shared[T]) -> None:
        if self._running.get(key) is shared:
            del self._running[key]
        ended = asyncio.Event()
        self._ending[key] = ended
        try:
            await shared.end()
        finally:
            if self._ending.get(key) is ended:  # a failed one may end beside its successor
                del self._ending[key]
            ended.set()
