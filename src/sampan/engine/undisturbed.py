"""Work that a cancelled caller waits for, because it uses what the caller will close."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from sampan.engine.blocking import blocking

P = ParamSpec("P")
T = TypeVar("T")


async def undisturbed(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `func(*args)`, called in a thread; if cancelled, wait for its end first.

    A descriptor that the thread uses must not be closed under it: its number may be another file
    by then.
    """
    return await waited_for(blocking(func, *args, **kwargs))


async def waited_for(call: Coroutine[Any, Any, T]) -> T:
    """Return what a call in a thread returns; if cancelled, wait for its end first."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await ended(task)
        raise


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Wait for the end of tasks that nobody will ask for their results any more.

    The loop complains of an error that nobody has seen.
    """
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def to_the_end(work: Awaitable[T], undo: Callable[[T], object]) -> T:
    """Await `work`; if we are cancelled meanwhile, wait for its end and undo it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            result = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(result[0], BaseException):
                await blocking(undo, result[0])
        raise
