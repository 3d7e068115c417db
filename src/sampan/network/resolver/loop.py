"""The event loop of the resolver: descriptors and deadlines, one thread."""

from __future__ import annotations

import heapq
import itertools
import logging
import select
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Readable(Protocol):
    """A file of any kind."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Timer:
    """A deadline that can be called off."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget it."""
        self.call = None


class Loop:
    """Calls back when a descriptor is ready or a time has come."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def watch(self, file: Readable, call: Callable[[], None], events: int = READ) -> None:
        """Call when `file` is ready, in place of an earlier wish."""
        number = file.fileno()
        if number in self._calls:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._calls[number] = call

    def forget(self, file: Readable) -> None:
        """Watch it no longer; to be called before it is closed."""
        number = file.fileno()
        if self._calls.pop(number, None):
            self._epoll.unregister(number)

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, in `seconds`."""
        timer = Timer(call)
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    def turn(self) -> None:
        """Wait for what is next, and do it."""
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        patience = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1
        for number, _ in self._epoll.poll(patience):
            if call := self._calls.get(number):
                call()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            if call := heapq.heappop(self._timers)[2].call:
                call()

    def close(self) -> None:
        """End."""
        self._epoll.close()
