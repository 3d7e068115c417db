"""What a build has said and its client has not read yet.

A command that writes without end and a client that has stopped reading must not fill the memory:
of too much output only a note is kept. Everything else that a build says is short, and kept.
"""

from __future__ import annotations

import asyncio
from typing import Final

from sampan.spec.docker.images import ProgressMessage

LIMIT: Final = 4 << 20  # letters of output that may wait, as of one step in BuildKit's logs
_EACH: Final = 256  # that a message costs beside its own
_CUT: Final = "[output clipped: it is not read]\n"


class Backlog:
    """Messages in the order in which they were said; None is the end."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[ProgressMessage | None, int]] = asyncio.Queue()
        self._size = 0
        self._is_cut = False

    def put(self, message: ProgressMessage | None) -> None:
        """Let a message wait."""
        size = len(message.stream) + _EACH if message and message.stream else 0
        if size and self._size + size > LIMIT:
            if self._is_cut:
                return
            self._is_cut, message, size = True, ProgressMessage(stream=_CUT), 0
        elif size:
            self._is_cut = False
        self._size += size
        self._waiting.put_nowait((message, size))

    async def get(self) -> ProgressMessage | None:
        """Return the next message."""
        message, size = await self._waiting.get()
        self._size -= size
        return message
