"""Memory that a crowd of clients took, given back to the host when they have gone.

The C library keeps what is freed for whoever comes next, for ever if nobody does: after 4,000
connections with TLS that was 190 MB.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path

from sampan.linux import heap

LOOK_SECONDS = 60.0
LONGEST_SECONDS = 960.0  # between looks that find nothing, for each costs up to 0.3 s of a core
MUCH = 32 << 20  # bytes above the least that was ever held, from which on it is worth a look
LITTLE = 4 << 20  # bytes that are not worth it


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Slimming:
    """Gives memory back where more of it is held than once was enough."""

    def __init__(
        self, held: Callable[[], int] = resident, trim: Callable[[], None] = heap.trim
    ) -> None:
        self._held = held
        self._trim = trim
        self._least = held()
        self.pause = LOOK_SECONDS

    def look(self) -> None:
        """Give back what is free, if there may be much; `pause` is then the time to wait."""
        before = self._held()
        self._least = min(self._least, before)
        if before - self._least <= MUCH:
            self.pause = LOOK_SECONDS
            return
        self._trim()
        is_needed = before - self._held() < LITTLE
        self.pause = min(2 * self.pause, LONGEST_SECONDS) if is_needed else LOOK_SECONDS

    async def keep(self) -> None:
        """Look from time to time."""
        while True:
            await asyncio.sleep(self.pause)
            await asyncio.to_thread(self.look)
