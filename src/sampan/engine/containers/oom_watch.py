"""Tells when the memory limit of a container has cost it a process.

Source: containerd's oom events, moby daemon/monitor.go EventOOM.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from sampan.rpc import Fd

EVENT_BYTES = 4096


class Counted(Protocol):
    """What is asked of a cgroup."""

    def exists(self) -> bool: ...
    def oom_kills(self) -> int: ...


class OOMWatch:
    """Follows the descriptor that the kernel makes readable, while the container runs.

    On cgroup v1 each readiness is one shortage of memory, also where nothing may be killed. On v2
    it is any change of `memory.events`: then only the count of kills says whether one was.
    """

    def __init__(
        self, event: Fd, group: Counted, tell: Callable[[], None], *, counts: bool
    ) -> None:
        self._event, self._group, self._tell, self._counts = event, group, tell, counts
        self._kills = group.oom_kills() if counts else 0
        self.told = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(event.number, self._changed)

    def _changed(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._event.number, EVENT_BYTES)
        if self._counts:
            kills = self._group.oom_kills()
            happened, self._kills = kills > self._kills, kills
        else:
            happened = self._group.exists()  # else: its removal is what made it readable
        if happened:
            self.told = True
            self._tell()

    def end(self) -> None:
        """Follow no longer, and close the descriptor."""
        self._loop.remove_reader(self._event.number)
        self._event.close()
