"""Calls in a thread that a cancelled caller waits for, because they use what it will close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sampan.engine.blocking import blocking

P = ParamSpec("P")
T = TypeVar("T")


async def undisturbed(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `func(*args)`, called in a thread; if cancelled, wait for its end first.

    A descriptor that the thread uses must not be closed under it: its number may be another file
    by then.
    """
    call = asyncio.ensure_future(blocking(func, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()  # seen: nobody else will ask for it
        raise
