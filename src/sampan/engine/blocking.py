"""The one crossing from async to sync: calls of contracts and files, in threads of our own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 32

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="blocking")


async def blocking(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `func(*args)`, called in a thread of the pool; for calls that end by themselves.

    A cancelled caller does not wait; the call goes on, and what it returns is dropped.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pool, lambda: func(*args, **kwargs))


async def in_own_thread(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `func(*args)`, called in a thread made for it; for calls that last as their peer does.

    An export, say, ends when the client has read it: it must not take a place in the pool.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, error = None, None
        try:
            value = func(*args, **kwargs)
        except BaseException as caught:  # noqa: BLE001 - raised again where it is awaited
            error = caught
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    threading.Thread(target=run, name="stream", daemon=True).start()
    return await future
