"""A clock for promises: the time of day may jump, and no promise must end by that."""

from __future__ import annotations

import time


class SteadyClock:
    """Seconds since the epoch, as they were known once, and counted from there.

    Whoever sets the machine's clock, or corrects it, does not change it. Also counts while the
    machine sleeps.
    """

    def __init__(self, now: float) -> None:
        self._offset = now - _counted()

    def now(self) -> float:
        """Return the time."""
        return self._offset + _counted()


def _counted() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
