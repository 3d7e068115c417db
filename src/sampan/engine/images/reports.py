"""What a pull or a push tells its client while it works, as Docker's JSON messages.

Source: moby pkg/progress, pkg/streamformatter, pkg/jsonmessage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final

from sampan.engine.undisturbed import ended
from sampan.spec.docker.images import ProgressDetail, ProgressMessage

Messages = AsyncGenerator[ProgressMessage, None]
INTERVAL: Final = 0.1  # seconds between two messages about the same transfer
_BAR: Final = 50  # characters
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def human_size(size: int) -> str:
    """Return a number of bytes in four digits and a decimal unit: 36.45kB.

    Source: docker/go-units size.go, HumanSize.
    """
    value, unit = float(size), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.4g}{_UNITS[unit]}"


def bar(current: int, total: int) -> str:
    """Return how far something is as Docker draws it for a wide terminal; "" if it has not begun.

    Source: moby pkg/jsonmessage jsonmessage.go, JSONProgress.String.
    """
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{human_size(current):>8}"
    done = min(int(current / total * 100) // 2, _BAR)
    numbers = f"{human_size(current):>8}"
    if current <= total:
        numbers += f"/{human_size(total)}"
    return f"[{'=' * done}>{' ' * (_BAR - done)}] {numbers}"


class Report:
    """Takes the messages of one pull or push, and gives them to one reader.

    A slow reader costs no memory: of the progress of a transfer only the newest is kept.
    """

    def __init__(self) -> None:
        self._waiting: list[ProgressMessage] = []
        self._newest: dict[str, ProgressMessage] = {}  # progress that was not read, by id
        self._news = asyncio.Event()
        self._closed = False

    def say(self, status: str, id: str = "") -> None:
        """Tell something that stands for itself."""
        self._add(ProgressMessage(status=status, id=id))

    def update(self, id: str, status: str) -> None:
        """Tell what a transfer does now."""
        self._newest.pop(id, None)
        self._add(ProgressMessage(status=status, progress_detail=ProgressDetail(), id=id))

    def advance(self, id: str, status: str, current: int, total: int) -> None:
        """Tell how far a transfer is, in bytes; replaces what was told before and not read."""
        detail = ProgressDetail(current=current, total=total)
        progress = bar(current, total)
        if (last := self._newest.get(id)) is not None and last.status == status:
            last.progress_detail, last.progress = detail, progress
            return
        message = ProgressMessage(status=status, progress_detail=detail, progress=progress, id=id)
        self._newest[id] = message
        self._add(message)

    def aux(self, value: Any) -> None:
        """Tell something that is meant for programs."""
        self._add(ProgressMessage(progress_detail=ProgressDetail(), aux=value))

    def close(self) -> None:
        """End the messages."""
        self._closed = True
        self._news.set()

    def _add(self, message: ProgressMessage) -> None:
        self._waiting.append(message)
        self._news.set()

    async def messages(self) -> Messages:
        """Yield the messages until `close`."""
        while True:
            self._news.clear()
            taken, self._waiting = self._waiting, []
            self._newest.clear()
            for message in taken:
                yield message
            if not self._waiting:
                if self._closed:
                    return
                await self._news.wait()


async def reported(work: Callable[[Report], Coroutine[Any, Any, None]]) -> Messages:
    """Do `work` and yield what it reports; its error comes after the last message.

    Closing before the end cancels the work, and waits until it has cleaned up.
    """
    report = Report()
    task = asyncio.ensure_future(work(report))
    task.add_done_callback(lambda _: report.close())
    try:
        async with aclosing(report.messages()) as messages:
            async for message in messages:
                yield message
        await task
    finally:
        task.cancel()
        await ended(task)


class Meter:
    """Counts the bytes of one transfer, in whatever thread, and tells the loop now and then."""

    def __init__(
        self, tell: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell, self._clock = tell, clock
        self._next = 0.0
        self._stopped = False
        self.count = 0

    def __call__(self, count: int) -> None:
        """Note that so many more bytes have gone."""
        self.count += count
        if (now := self._clock()) >= self._next and not self._stopped:
            self._next = now + INTERVAL
            self._loop.call_soon_threadsafe(self._pass_on, self.count)

    def _pass_on(self, count: int) -> None:
        if not self._stopped:
            self._tell(count)

    def stop(self) -> None:
        """Tell no more."""
        self._stopped = True
