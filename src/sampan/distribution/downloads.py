"""One blob on its way into a file or a pipe, checked while it passes."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Awaitable, Callable

from sampan.distribution.headers import content_range
from sampan.distribution.refusals import Refusal
from sampan.distribution.session import expect, may_pass
from sampan.distribution.transport import FailedRequest, Header, Transport
from sampan.errors import Upstream
from sampan.http.exchange import Answer
from sampan.http.faults import BrokenFault, Fault
from sampan.http.pump import Halt, unblocked
from sampan.spec.digest import algorithm, encoded, parse_digest
from sampan.spec.image import Descriptor

Advance = Callable[[int], None]
Ask = Callable[[list[Header]], Awaitable[Answer]]
"""Sends the request for the blob with these headers more."""
Into = int | Callable[[memoryview], None]
"""Where the bytes go: a file or a pipe, or whoever takes them in the thread that receives them."""

_PIPE_BYTES = 1 << 20  # what an unprivileged process may ask of a pipe
_PROGRESS = 1 << 20  # after so many bytes, the attempts are counted anew


class WrongContent(Exception):
    """The bytes are not the blob's. `is_clean`: none of them has been written."""

    def __init__(self, sentence: str, *, is_clean: bool = False) -> None:
        super().__init__(sentence)
        self.is_clean = is_clean


class Download:
    """Takes the bytes of a blob, from as many answers as it needs."""

    def __init__(self, descriptor: Descriptor, into: Into, advance: Advance) -> None:
        digest = parse_digest(descriptor.digest)
        self.descriptor = descriptor
        self.received = 0
        self._hash = hashlib.new(algorithm(digest))
        self._hex = encoded(digest)
        self._into = into
        self._advance = advance
        self._skip = 0  # bytes of a repeated answer that are here already

    async def run(self, ask: Ask, transport: Transport, attempts: int) -> None:
        """Fetch what is missing.

        What has been received stays, so that another source can go on. Raises WrongContent,
        Refusal, FailedRequest; OSError if the bytes cannot be written.
        """
        if not isinstance(self._into, int):
            return await self._run(ask, transport, attempts)
        with unblocked(self._into):
            _widen(self._into)
            return await self._run(ask, transport, attempts)

    async def _run(self, ask: Ask, transport: Transport, attempts: int) -> None:
        attempt, before = 1, self.received
        while True:
            try:
                return await self._attempt(ask)
            except (FailedRequest, Refusal) as error:
                if self.received - before >= _PROGRESS:
                    attempt, before = 1, self.received
                if attempt >= attempts or not may_pass(error):
                    raise
            await transport.pause(attempt)
            attempt += 1

    async def _attempt(self, ask: Ask) -> None:
        wanted = [("Range", f"bytes={self.received}-")] if self.received else []
        async with await ask([("Accept-Encoding", "identity"), *wanted]) as answer:
            await expect(answer, 200, 206)
            self._check_head(answer, bool(wanted))
            try:
                await answer.pour(self._take)
                if self.received < self.descriptor.size and answer.content_length is None:
                    raise BrokenFault("unexpected EOF")
            except Fault as fault:
                raise FailedRequest("Get", answer.url, fault) from None
        self._finish()

    def _check_head(self, answer: Answer, is_part: bool) -> None:
        """See what part of the blob an answer holds."""
        left = self.descriptor.size
        self._skip = self.received
        if answer.status == 206:
            part = content_range(answer.headers.get("content-range"))
            expected = (self.received, self.descriptor.size - 1)
            if not is_part or part is None or part[:2] != expected:
                raise WrongContent(
                    "the registry sent another range than it was asked for", is_clean=True
                )
            left, self._skip = left - self.received, 0
        if answer.content_length is not None and answer.content_length != left:
            raise WrongContent(
                f"unexpected size of {self.descriptor.digest}: {answer.content_length} bytes"
                f" instead of {left}",
                is_clean=True,
            )

    def _take(self, view: memoryview, halt: Halt) -> None:
        if self._skip:
            dropped = min(self._skip, len(view))
            self._skip -= dropped
            view = view[dropped:]
        if self.received + len(view) > self.descriptor.size:
            raise WrongContent(f"more than {self.descriptor.size} bytes came")
        if view:
            self._hash.update(view)
            if isinstance(self._into, int):
                halt.write(self._into, view)
            else:
                self._into(view)
            self.received += len(view)
            self._advance(len(view))

    def _finish(self) -> None:
        if self.received != self.descriptor.size:
            raise WrongContent(f"{self.received} bytes came instead of {self.descriptor.size}")
        if self._hash.hexdigest() != self._hex:
            raise WrongContent("its content has another digest")


def wrong_content(descriptor: Descriptor, error: WrongContent) -> Upstream:
    """Return the error that tells a user of a blob that is not what it should be."""
    return Upstream(f"filesystem layer verification failed for digest {descriptor.digest}: {error}")


def _widen(fd: int) -> None:
    """Let a pipe hold more, so that both ends work longer between two waits."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        pass  # a file, or the user has many pipes already
