"""The event loop of keeper and forker: epoll, handlers, deadlines. Idle, it never wakes."""

from __future__ import annotations

import heapq
import itertools
import logging
import select
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

Handler = Callable[[int], None]


class Loop:
    """Calls the handler of each descriptor that is ready. Handlers must bear a false alarm."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call `handler` with the events; replaces what was watched for on the descriptor."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Stop watching; called before the descriptor is closed. What is not watched is no error.

        A duplicate in the other half would otherwise keep the registration alive.
        """
        if self._handlers.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` once, after `seconds`."""
        when = time.monotonic() + seconds
        heapq.heappush(self._timers, (when, next(self._order), action))

    def turn(self) -> None:
        """Wait until something is ready, and handle all that is."""
        for descriptor, events in self._epoll.poll(self._timeout()):
            handler = self._handlers.get(descriptor)
            if handler:
                self._call(descriptor, handler, events)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._act(heapq.heappop(self._timers)[2])

    def _call(self, descriptor: int, handler: Handler, events: int) -> None:
        try:
            handler(events)
        except Exception:
            # A fault in the work for one descriptor must not take all containers with it.
            log.exception("descriptor %d is not served any more", descriptor)
            self.forget(descriptor)

    def _act(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            log.exception("what was to be done later has failed")

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()

    def _timeout(self) -> float | None:
        if not self._timers:
            return None
        # epoll counts milliseconds: one more, or the loop would turn for nothing.
        return max(0.0, self._timers[0][0] - time.monotonic()) + 0.001
