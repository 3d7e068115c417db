"""Events, as `GET /events` streams them.

Source: moby api/types/events. The three fields of old clients (`status`, `id`, `from`) are added
by the face, for API versions up to 1.51.
"""

from __future__ import annotations

import msgspec


class Actor(msgspec.Struct, kw_only=True):
    """The object that something happened to."""

    id: str = msgspec.field(name="ID")
    attributes: dict[str, str] = msgspec.field(name="Attributes", default_factory=dict)


class EventMessage(msgspec.Struct, kw_only=True):
    """One event."""

    type: str = msgspec.field(name="Type")  # container, image, network, volume, daemon
    action: str = msgspec.field(name="Action")  # create, start, die, "health_status: healthy" …
    actor: Actor = msgspec.field(name="Actor")
    scope: str = "local"
    time: int  # seconds since the epoch
    time_nano: int = msgspec.field(name="timeNano")


class LegacyEventMessage(EventMessage, kw_only=True):
    """The same event for clients that read the fields of API 1.21 and before."""

    status: str
    id: str
    from_: str | msgspec.UnsetType = msgspec.field(name="from", default=msgspec.UNSET)


def legacy(event: EventMessage) -> EventMessage:
    """Return the event with the old fields, for the two types that had them."""
    if event.type not in ("container", "image"):
        return event
    image = event.actor.attributes.get("image", "")
    return LegacyEventMessage(
        type=event.type,
        action=event.action,
        actor=event.actor,
        scope=event.scope,
        time=event.time,
        time_nano=event.time_nano,
        status=event.action,
        id=event.actor.id,
        from_=image if event.type == "container" else msgspec.UNSET,
    )
