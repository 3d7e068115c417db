"""Events: what happened, to whoever listens, with a short memory.

Source: moby daemon/events/events.go, filter.go.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from sampan.engine.filters import Filters
from sampan.errors import InvalidArgument
from sampan.spec.docker.events import Actor, EventMessage
from sampan.spec.reference import Reference

REMEMBERED: Final = 256
UNREAD_AT_MOST: Final = 4096  # a listener that is slower loses the oldest, not the engine's memory
KNOWN: Final = frozenset(
    "config container daemon event id image label network node plugin scope secret service type "
    "volume".split()
)


class Events:
    """The events of this engine, in order; the last 256 are remembered."""

    def __init__(self) -> None:
        self._past: deque[EventMessage] = deque(maxlen=REMEMBERED)
        self._listeners: set[_Listener] = set()
        self._last = 0

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def publish(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        """Tell all listeners of an event; never waits."""
        now = self._last = max(time.time_ns(), self._last + 1)  # no two at the same time
        event = EventMessage(
            type=type,
            action=action,
            actor=Actor(id=id, attributes=dict(sorted(attributes.items()))),
            time=now // 10**9,
            time_nano=now,
        )
        self._past.append(event)
        for listener in self._listeners:
            listener.hear(event)

    def subscribe(
        self,
        since: int | None = None,
        until: int | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> AsyncIterator[EventMessage]:
        """Yield remembered events from `since` on, then new ones, up to `until`.

        Times in nanoseconds since the epoch, 0 is none. Registered when this returns: what comes
        later is not missed. With `until` in the past it ends by itself. Raises InvalidArgument
        for a filter that Docker does not know.
        """
        chosen = Chosen(filters or {})
        listener = _Listener(chosen)
        if since or until:
            for event in self._past:
                if event.time_nano >= (since or 0) and not (until and event.time_nano > until):
                    listener.hear(event)
        if until and until <= time.time_ns():
            listener.over = True
        else:
            self._listeners.add(listener)
        return _Subscription(self._listeners, listener, until or 0)


class _Listener:
    """One who listens, and what it has not read yet."""

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self.unread: deque[EventMessage] = deque(maxlen=UNREAD_AT_MOST)
        self.news = asyncio.Event()
        self.over = False

    def hear(self, event: EventMessage) -> None:
        if self._chosen.includes(event):
            self.unread.append(event)
            self.news.set()


class _Subscription(AsyncIterator[EventMessage]):
    """The iterator of one listener; it stops listening when it is closed or dropped."""

    def __init__(self, listeners: set[_Listener], listener: _Listener, until: int) -> None:
        self._listeners, self._listener, self._until = listeners, listener, until

    def __aiter__(self) -> AsyncIterator[EventMessage]:
        return self

    async def __anext__(self) -> EventMessage:
        listener = self._listener
        while not listener.unread:
            if listener.over:
                self._stop()
                raise StopAsyncIteration
            listener.news.clear()
            try:
                async with asyncio.timeout(self._left()):
                    await listener.news.wait()
            except TimeoutError:
                listener.over = True
        event = listener.unread.popleft()
        if self._until and event.time_nano > self._until:
            self._stop()
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Stop listening; a second call does nothing."""
        self._stop()

    def __del__(self) -> None:
        self._stop()

    def _stop(self) -> None:
        self._listener.over = True
        self._listeners.discard(self._listener)

    def _left(self) -> float | None:
        return max(0.0, (self._until - time.time_ns()) / 1e9) if self._until else None


class Chosen:
    """Which events a listener wants."""

    def __init__(self, filters: Mapping[str, Sequence[str]]) -> None:
        self._filters = Filters(filters, KNOWN)

    def includes(self, event: EventMessage) -> bool:
        """Tell whether the filters let an event through."""
        wanted = self._filters
        return (
            self._action(event)
            and wanted.one_of("type", event.type)
            and wanted.one_of("scope", event.scope)
            and wanted.labels(event.actor.attributes)
            and (event.type != "node" or "node" not in wanted)
            and all(self._actor(event, kind) for kind in ("container", "daemon", "network"))
            and all(self._actor(event, kind) for kind in ("plugin", "volume", "service"))
            and self._image(event)
        )

    def _action(self, event: EventMessage) -> bool:
        """Tell whether the action is wanted: `exec_create: sh` is found by `exec_create` too."""
        names = self._filters.values("event")
        return not names or event.action in names or event.action.partition(":")[0] in names

    def _actor(self, event: EventMessage, kind: str) -> bool:
        """Tell whether the object is wanted by its id, or the beginning of it, or its name."""
        names = self._filters.values(kind)
        if not names:
            return True
        if event.type != kind:
            return False
        own = event.actor.attributes.get("name", "")
        return any(event.actor.id.startswith(name) or name == own for name in names if name)

    def _image(self, event: EventMessage) -> bool:
        names = self._filters.values("image")
        if not names:
            return True
        attribute = "name" if event.type == "image" else "image"
        own = {event.actor.id, event.actor.attributes.get(attribute, "")}
        return not own.isdisjoint(names) or not {_bare(each) for each in own}.isdisjoint(names)


def _bare(image: str) -> str:
    """Return the name of an image without its tag."""
    try:
        reference = Reference.parse(image)
    except InvalidArgument:
        return image
    return reference.familiar.rpartition(":")[0] if reference.tag else reference.familiar
