"""What is written to an upload waits in files of this machine, and is sent while more is received.

So memory holds no part, however many clients push and however slow the storage is. The files have
no names: nothing is left of them when the registry ends.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import BinaryIO, Generic, Protocol, TypeVar

T = TypeVar("T")
AHEAD = 3  # parts of one upload that are sent while the next one is written
SENDERS = 8  # parts of all uploads that are sent at once
Send = Callable[[int, BinaryIO, int], T]
"""Stores so many bytes of a file, which stand at an offset of the upload."""


class Outbox(Generic[T]):
    """The parts of one upload. One thread at a time works on it."""

    def __init__(self, send: Send[T], threads: Executor, folder: str | None, offset: int) -> None:
        """`offset` is where the first part begins."""
        self._send = send
        self._threads = threads
        self._folder = folder
        self._file: BinaryIO | None = None
        self._waiting: deque[Future[T]] = deque()
        self._error: Exception | None = None
        self.done: list[T] = []  # of the parts that are stored, in their order
        self.start = offset  # of what is written now
        self.size = 0  # bytes of it

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the part that is not yet sent."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 see _work
            self._file.write(data)
        except OSError as error:
            self.fail(error)
            raise
        self.size += len(data)

    def fail(self, error: Exception) -> None:
        """Send nothing more: what was written is not what was meant."""
        self._error = self._error or error

    def send(self) -> None:
        """Send what was written. Waits while too much is on its way; raises what failed there."""
        if self._file is None:
            self.write(b"")
        file, self._file = self._file, None
        assert file is not None
        self._waiting.append(self._threads.submit(self._work, self.start, file, self.size))
        self.start += self.size
        self.size = 0
        self._take(AHEAD)

    def _work(self, start: int, file: BinaryIO, size: int) -> T:
        with file:
            if self._error:  # what is before it is not there, so it would help nobody
                raise self._error
            try:
                file.seek(0)
                return self._send(start, file, size)
            except Exception as error:
                self.fail(error)
                raise

    def _take(self, most: int) -> None:
        """Wait until at most so many parts are on their way."""
        while len(self._waiting) > most:
            self.done.append(self._waiting.popleft().result())

    def settle(self) -> None:
        """Return when nothing is on its way any more; raise what failed.

        `done` are then the parts before the one that failed.
        """
        try:
            self._take(0)
        finally:
            while self._waiting:  # nobody may write once this has ended
                self._waiting.popleft().exception()
        if self._error:
            raise self._error

    def close(self) -> None:
        """Throw away what was not sent."""
        if self._file is not None:
            with suppress(OSError):  # a full disk may not even take what nobody wants
                self._file.close()
            self._file = None


class Sending(Protocol):
    """Makes the outbox of an upload, whose first part begins at an offset."""

    def __call__(self, send: Send[T], offset: int, /) -> Outbox[T]: ...
