"""Events of containers, with the attributes that Docker gives them."""

from __future__ import annotations

from dataclasses import dataclass

from sampan.engine.containers.container import Container
from sampan.engine.events import Events


@dataclass(frozen=True, slots=True)
class Notices:
    """Publishes what happens to containers."""

    events: Events

    def container(self, container: Container, action: str, **more: str) -> None:
        """Publish `action` with image, name, labels, and what else there is to say."""
        attributes = dict(container.config.labels or {})
        attributes |= {"image": container.config.image, "name": container.name, **more}
        self.events.publish("container", action, container.id, attributes)
