"""Work in a thread of its own that a cancellation ends at once."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
FAREWELL_SECONDS = 0.5  # a cancelled thread ends at its next wait; only a foreign read may not


class Halted(Exception):
    """The thread's work is no longer wanted."""


class Halt:
    """How the event loop ends the waiting of a thread."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._open = True
        self._wanted = True

    def set(self) -> None:
        """End every wait of the thread, now and from now on."""
        with self._lock:
            self._wanted = False
            if self._open:
                os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Give the descriptor back; the thread does it at its end."""
        with self._lock:
            self._open = False
            os.close(self._fd)

    def check(self) -> None:
        """Raise Halted if the work is no longer wanted."""
        if not self._wanted:
            raise Halted

    def wait(self, fd: int, events: int, seconds: float) -> int:
        """Return which of `events` are there on `fd`. Raises Halted, TimeoutError."""
        self.check()
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(fd, events)
        found = dict(poll.poll(seconds * 1000))
        if self._fd in found:
            raise Halted
        if not found:
            raise TimeoutError
        return found[fd]

    def write(self, fd: int, view: memoryview) -> None:
        """Write all of `view` to a file, or to a pipe made ready by `unblocked`."""
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                self._wait_for_reader(fd)

    def _wait_for_reader(self, fd: int) -> None:
        while True:  # a reader may take its time: it has a disk to write to
            try:
                self.wait(fd, select.POLLOUT, 3600)
            except TimeoutError:
                continue
            return


@contextmanager
def unblocked(fd: int) -> Iterator[None]:
    """Let writes to a pipe or socket return at once for a while; a file is left as it is."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) or not os.get_blocking(fd):
        yield
        return
    os.set_blocking(fd, False)
    try:
        yield
    finally:
        os.set_blocking(fd, True)


async def in_thread(work: Callable[[Halt], T]) -> T:
    """Return `work(halt)`, done in a thread made for it; a cancellation halts and awaits it."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    halt = Halt()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, error = None, None
        try:
            value = work(halt)
        except BaseException as caught:  # noqa: BLE001 - raised again where it is awaited
            error = caught
        halt.close()
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits

    threading.Thread(target=run, name="pump", daemon=True).start()
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        halt.set()
        await asyncio.wait((result,), timeout=FAREWELL_SECONDS)
        if result.done() and not result.cancelled():
            result.exception()  # it is known that the work was not done
        else:
            result.cancel()
        raise
