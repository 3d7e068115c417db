"""Events: what happened, to whoever listens, with a short memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from sampan.spec.docker.events import EventMessage

Filters = Mapping[str, Sequence[str]]


class Events:
    """The events of this engine, in order; the last 256 are remembered."""

    def publish(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        """Tell all listeners of an event; never waits."""

    def subscribe(
        self, since: int = 0, until: int = 0, filters: Filters | None = None
    ) -> AsyncIterator[EventMessage]:
        """Yield remembered events from `since` on, then new ones, up to `until`.

        Times in nanoseconds since the epoch, 0 is none. Registered when this returns: what comes
        later is not missed. With `until` in the past it ends by itself.
        """

    @property
    def listeners(self) -> int:
        """How many listen."""
