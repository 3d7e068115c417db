"""What the answers to the daemon's calls are given by the process that has the containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sampan.runtime.spawning.messages import Message
from sampan.runtime.spawning.tasks import Key, Task
from sampan.runtime.spawning.world import Launching, World


class Children(Protocol):
    """Who has the containers as children, and tells the keeper of them."""

    @property
    def world(self) -> World: ...

    def tell(self, message: Message) -> None:
        """Tell the keeper."""

    def when_ready(self, launching: Launching, action: Callable[[], None]) -> None:
        """Call `action` when `launching` can be finished without waiting."""

    def add(self, task: Task) -> None:
        """Take a task that runs into the table, and give it to the keeper."""

    def forget(self, key: Key) -> Task | None:
        """Take a task out of the table; its descriptors are still open."""

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` once, after `seconds`."""
