"""Deleting in the background what was renamed into the trash."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)


class Collector:
    """Calls `collect` whenever something was thrown away, beside the caller's work.

    With `forks` in a child process, which must be made while there is one thread; else in a
    thread. The child is made once, on first use, and ends with its parent.
    """

    def __init__(self, collect: Callable[[], None], *, forks: bool) -> None:
        self._collect, self._forks = collect, forks
        self._owner = os.getpid()
        self._wake = -1
        self._child = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def wake(self) -> None:
        """Have the trash emptied soon."""
        with self._lock:
            if os.getpid() != self._owner:
                return  # a forked child of ours: the next removal or start collects
            if self._wake < 0:
                self._start()
            try:
                os.write(self._wake, b".")
            except BlockingIOError:
                pass  # enough reminders wait
            except BrokenPipeError:
                self._reap()
                self._start()
                os.write(self._wake, b".")

    def close(self) -> None:
        """Finish what is in the trash, and stop."""
        with self._lock:
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1
            if self._thread:
                self._thread.join()
                self._thread = None
            self._reap()

    def _start(self) -> None:
        read, self._wake = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._wake, False)
        if not self._forks:
            self._thread = threading.Thread(
                target=self._run, args=(read,), name="trash", daemon=True
            )
            self._thread.start()
            return
        self._child = os.fork()
        if self._child:
            os.close(read)
            return
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.closerange(3, read)
            os.closerange(read + 1, 1 << 16)
            with suppress(OSError):
                os.nice(10)
            self._run(read)
        finally:
            os._exit(0)

    def _run(self, read: int) -> None:
        try:
            while os.read(read, 4096):
                try:
                    self._collect()
                except OSError:
                    log.warning("the trash of snapshots could not be emptied", exc_info=True)
        finally:
            os.close(read)

    def _reap(self) -> None:
        child, self._child = self._child, 0
        if child:
            with suppress(ChildProcessError):
                os.waitpid(child, 0)
