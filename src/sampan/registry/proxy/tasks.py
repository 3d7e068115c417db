"""Work that goes on without whoever began it, and that several may wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """Owns tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._shared: dict[tuple[Any, ...], asyncio.Task[Any]] = {}

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def together(self, key: tuple[Any, ...], make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what is made for a key: once for all who want it at the same time."""
        task = self._shared.get(key)
        if task is None:
            task = self._shared[key] = self.start(make())
            task.add_done_callback(lambda _: self._shared.pop(key, None))
            task.add_done_callback(_look)
        found: T = await asyncio.shield(task)
        return found

    async def end(self) -> None:
        """Cancel all, and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look(task: asyncio.Task[Any]) -> None:
    """Take note of a failure that nobody may wait for any more."""
    if not task.cancelled():
        task.exception()
