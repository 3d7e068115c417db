"""Calls of the asynchronous engine from synchronous code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from sampan.engine.engine import Engine

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sampan", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and return what it returns."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the user has interrupted us: so is what we wait for
            raise

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


@dataclass(frozen=True, slots=True)
class Calls:
    """A running engine, and the loop that it runs in."""

    engine: Engine
    loop: Loop
    default_network: str  # of containers that do not name one

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the engine, and return what it returns."""
        return self.loop.call(work)
