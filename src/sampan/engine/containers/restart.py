"""Restart policies: whether and when a container that has ended starts again.

Source: moby daemon/internal/restartmanager.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sampan.engine.containers.container import Container
from sampan.engine.tasks import Tasks

FIRST_SECONDS, MAX_SECONDS = 0.1, 60.0
STEADY_SECONDS = 10  # a container that ran so long starts afresh with the shortest delay


class Restarts:
    """Decides about restarts, and waits for their time."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._delays: dict[str, float] = {}

    def delay(self, container: Container) -> float | None:
        """Return the seconds until the next start of a container that has ended; None for never."""
        if not wants_restart(container):
            self._delays.pop(container.id, None)
            return None
        record = container.record
        ran = (record.finished_at - record.started_at) / 10**9
        last = self._delays.get(container.id, 0.0)
        delay = FIRST_SECONDS if ran >= STEADY_SECONDS else min(last * 2, MAX_SECONDS)
        self._delays[container.id] = delay = max(delay, FIRST_SECONDS)
        return delay

    def schedule(
        self,
        container: Container,
        delay: float,
        start: Callable[[Container], Awaitable[None]],
    ) -> None:
        """Start the container after so many seconds."""

        async def start_later() -> None:
            await asyncio.sleep(delay)
            container.restart = None
            await start(container)

        container.restart = self._tasks.spawn(start_later(), f"restart of {container.short_id}")

    def cancel(self, container: Container) -> None:
        """Do not start the container again by itself."""
        if container.restart:
            container.restart.cancel()
        container.restart = None
        container.restarting = False
        self._delays.pop(container.id, None)


def wants_restart(container: Container) -> bool:
    """Tell whether the policy asks for another start."""
    policy = container.host_config.restart_policy
    record = container.record
    if container.stop_requested or record.manually_stopped or container.removing:
        return False
    if policy.name == "on-failure":
        limit = policy.maximum_retry_count
        return record.exit_code != 0 and (not limit or record.restart_count < limit)
    return policy.name in ("always", "unless-stopped")
