"""One request and its answer on a client's connection."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import h11

from sampan.http.faults import (
    BrokenFault,
    Fault,
    MalformedFault,
    TimeoutFault,
    exchange_fault,
    malformed,
)
from sampan.http.limits import ClientLimits
from sampan.http.pump import Halt, in_thread
from sampan.http.request import Headers
from sampan.http.urls import Url
from sampan.http.wire import Blocked, Wire

BUFFER = 1 << 20  # of one transfer
ENOUGH = 256 << 10  # bytes that are worth a hash and a write
_INFORMATIONAL = 8  # 1xx answers before the real one
_DIGITS = 18  # of a length in bytes
_PIECES = 4096  # of a body, before it is asked how large they are
_LEAST = 16  # bytes that a piece has then, on the average: less is a server that wastes our time
_TURN = 256  # pieces, after which others have their turn

Sink = Callable[[memoryview, Halt], None]
"""Takes the next bytes of a body, in the thread that receives them."""


@dataclass(frozen=True, slots=True)
class Source:
    """A body that is read while it is sent, in a thread. `length` None: as long as it comes."""

    read: Callable[[int], bytes]
    length: int | None = None


class _Pieces:
    """Counts the pieces in which a body comes: each costs the time of some thousand bytes.

    Source: Go's net/http/internal/chunked.go, which ends such answers by the same words.
    """

    def __init__(self) -> None:
        self.count = self._size = 0

    def add(self, size: int) -> None:
        """Count one more. Raises MalformedFault if they are many and tiny."""
        self.count += 1
        self._size += size
        if self.count > _PIECES and self._size < self.count * _LEAST:
            raise MalformedFault("chunked encoding contains too much non-data")


class Exchange:
    """A request on its way: sends it, and waits for the head of the answer."""

    def __init__(self, wire: Wire, limits: ClientLimits, answer_seconds: float) -> None:
        self.wire = wire
        self.limits = limits
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes)
        self.has_answered = False
        self._answer_seconds = answer_seconds

    async def send(self, head: h11.Request, body: bytes | Source | None) -> None:
        """Send the request. Raises a Fault; an answer that comes early ends the sending."""
        parts = [self.http.send(head) or b""]
        if isinstance(body, bytes) and body:
            parts.append(self.http.send(h11.Data(data=body)) or b"")
        if not isinstance(body, Source):
            parts.append(self.http.send(h11.EndOfMessage()) or b"")
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self.wire.send(b"".join(parts))
        except ConnectionError:
            await self._early_answer()
        except OSError as error:
            raise exchange_fault(error, "") from None
        if isinstance(body, Source):
            await in_thread(_Sender(self, body))

    async def _early_answer(self) -> None:
        """The server hung up while we sent: it may have told why."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                data = await self.wire.receive()
        except OSError as error:
            raise exchange_fault(error, "") from None
        if not data:
            raise BrokenFault("EOF")
        self.receive_data(data)

    def receive_data(self, data: bytes) -> None:
        """Take what the server has sent; b"" at its end."""
        self.has_answered = self.has_answered or bool(data)
        self.http.receive_data(data)

    async def answer(self, url: Url, keep: Callable[[Wire], None]) -> Answer:
        """Return the answer when its head is there. Raises a Fault."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                head = await self._head()
        except TimeoutError:
            raise TimeoutFault("net/http: timeout awaiting response headers") from None
        except OSError as error:
            raise exchange_fault(error, url.host) from None
        except h11.RemoteProtocolError as error:
            if not self.has_answered:
                raise BrokenFault("EOF") from None
            raise malformed(error) from None
        return Answer(self, head, url, keep)

    async def _head(self) -> h11.Response:
        told = 0
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.receive_data(await self.wire.receive())
            elif isinstance(event, h11.Response):
                return event
            elif isinstance(event, h11.InformationalResponse) and told < _INFORMATIONAL:
                told += 1
            else:
                raise MalformedFault("net/http: HTTP/1.x transport connection broken")


class _Sender:
    """The thread that sends a Source."""

    def __init__(self, exchange: Exchange, source: Source) -> None:
        self._exchange, self._source = exchange, source
        self._scratch = bytearray(16 << 10)

    def __call__(self, halt: Halt) -> None:
        http = self._exchange.http
        try:
            while data := self._source.read(ENOUGH):
                halt.check()
                if self._is_answered():
                    return
                for part in http.send_with_data_passthrough(h11.Data(data=data)) or ():
                    if not self._send(memoryview(part), halt):
                        return
            self._send(memoryview(http.send(h11.EndOfMessage()) or b""), halt)
        except ConnectionError as error:
            if not self._is_answered():
                raise exchange_fault(error, "") from None
        except h11.LocalProtocolError as error:
            raise ValueError(f"the body has not the length that was told: {error}") from None

    def _send(self, view: memoryview, halt: Halt) -> bool:
        """Send all; False if the server has answered already."""
        wire, limits = self._exchange.wire, self._exchange.limits
        while view:
            try:
                view = view[wire.send_some(view) :]
            except Blocked as blocked:
                try:
                    found = halt.wait(
                        wire.sock.fileno(), blocked.events | select.POLLIN, limits.stall_seconds
                    )
                except TimeoutError:
                    raise TimeoutFault("write tcp: i/o timeout") from None
                if found & ~select.POLLOUT and self._is_answered():
                    return False
        return True

    def _is_answered(self) -> bool:
        """Take what the server may have said before it was its turn."""
        try:
            count = self._exchange.wire.receive_into(memoryview(self._scratch))
        except Blocked:
            return False
        except OSError as error:
            raise exchange_fault(error, "") from None
        self._exchange.receive_data(bytes(self._scratch[:count]))
        return True


class Answer:
    """The head of an answer, and its body as it is asked for."""

    def __init__(
        self, exchange: Exchange, head: h11.Response, url: Url, keep: Callable[[Wire], None]
    ) -> None:
        self.status = head.status_code
        self.reason = bytes(head.reason).decode("latin-1")
        self.headers = Headers(list(head.headers))
        self.url = url
        self._exchange = exchange
        self._keep = keep
        self._is_1_1 = head.http_version == b"1.1"
        self._is_complete = False
        self._is_closed = False

    @property
    def content_length(self) -> int | None:
        """The length that the answer tells; None if it tells none that can be."""
        text = self.headers.get("content-length")
        if "transfer-encoding" in self.headers or not text.isascii() or not text.isdecimal():
            return None
        return int(text) if len(text) <= _DIGITS else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep the connection for the next request if it can be, or end it; once."""
        if self._is_closed:
            return
        self._is_closed = True
        exchange = self._exchange
        if not self._is_complete:
            self._skip_what_is_here()
        closing = "close" in self.headers.get("connection").lower()
        sent = exchange.http.our_state in (h11.DONE, h11.MUST_CLOSE)
        is_over = self._is_complete and sent and not exchange.http.trailing_data[0]
        if is_over and self._is_1_1 and not closing:
            self._keep(exchange.wire)
        else:
            exchange.wire.close()

    def _skip_what_is_here(self) -> None:
        """End an answer whose rest has come already: a short or an empty body."""
        try:
            while isinstance(event := self._exchange.http.next_event(), h11.Data):
                pass
            self._is_complete = isinstance(event, h11.EndOfMessage)
        except h11.RemoteProtocolError:
            pass

    async def read(self, limit: int) -> bytes:
        """Return the whole body; MalformedFault if it is longer than `limit` bytes."""
        if (self.content_length or 0) > limit:
            raise MalformedFault(f"the answer is larger than {limit} bytes")
        body = bytearray()
        pieces = _Pieces()
        try:
            async with asyncio.timeout(self._exchange.limits.document_seconds):
                while True:
                    event = self._exchange.http.next_event()
                    if event is h11.NEED_DATA:
                        self._exchange.receive_data(await self._exchange.wire.receive())
                    elif isinstance(event, h11.Data):
                        body += event.data
                        if len(body) > limit:
                            raise MalformedFault(f"the answer is larger than {limit} bytes")
                        pieces.add(len(event.data))
                        if not pieces.count % _TURN:  # however fast the server is
                            await asyncio.sleep(0)
                    else:
                        self._is_complete = isinstance(event, h11.EndOfMessage)
                        return bytes(body)
        except h11.RemoteProtocolError as error:
            raise malformed(error) from None
        except TimeoutError:
            raise TimeoutFault("i/o timeout") from None
        except OSError as error:
            raise exchange_fault(error, self.url.host) from None

    async def pour(self, sink: Sink) -> None:
        """Give the whole body to `sink`, in a thread. Raises a Fault, or what `sink` raises.

        A sink that has enough raises; the connection is ended then.
        """
        await in_thread(_Receiver(self._exchange, self.content_length, sink))
        self._is_complete = True


class _Receiver:
    """The thread that receives a body.

    A body of known length needs no parser: after what h11 has read already it is received
    straight into the buffer.
    """

    def __init__(self, exchange: Exchange, length: int | None, sink: Sink) -> None:
        self._wire, self._http = exchange.wire, exchange.http
        self._limits = exchange.limits
        self._left = length
        self._sink = sink
        self._pieces = _Pieces()
        self._waited = 0.0  # seconds in which only `_progress` bytes came
        self._progress = 0

    def __call__(self, halt: Halt) -> None:
        buffer = memoryview(bytearray(BUFFER))
        try:
            if not self._what_is_here(halt):
                return
            if self._left is None:
                self._parse(buffer, halt)
            else:
                self._receive(buffer, halt)
        except h11.RemoteProtocolError as error:
            raise malformed(error) from None

    def _what_is_here(self, halt: Halt) -> bool:
        """Pass on what was read with the head; False if that was all."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Data):
                if self._left is not None:
                    self._left -= len(event.data)
                self._pieces.add(len(event.data))
                self._sink(memoryview(event.data), halt)
            else:
                return event is h11.NEED_DATA

    def _receive(self, buffer: memoryview, halt: Halt) -> None:
        filled = 0
        while self._left:
            try:
                count = self._take(buffer[filled : filled + self._left])
            except Blocked as blocked:
                if filled:
                    self._sink(buffer[:filled], halt)
                    filled = 0
                else:
                    self._wait(blocked.events, halt)
                continue
            except Fault:
                self._sink(buffer[:filled], halt)  # what came before counts
                raise
            filled += count
            self._left -= count
            if filled >= ENOUGH:
                halt.check()
                self._sink(buffer[:filled], halt)
                filled = 0
        if filled:
            self._sink(buffer[:filled], halt)

    def _parse(self, buffer: memoryview, halt: Halt) -> None:
        while True:
            try:
                count = self._take(buffer[:ENOUGH])
            except Blocked as blocked:
                self._wait(blocked.events, halt)
                continue
            halt.check()
            self._http.receive_data(bytes(buffer[:count]))
            if not self._what_is_here(halt):
                return

    def _take(self, view: memoryview) -> int:
        try:
            count = self._wire.receive_into(view)
        except OSError as error:
            raise exchange_fault(error, "") from None
        if not count and self._left is not None:
            raise BrokenFault("unexpected EOF")
        self._progress += count
        return count

    def _wait(self, events: int, halt: Halt) -> None:
        """Wait for more, but no longer than a server that is alive would need.

        Only the time spent here counts: a slow sink is not the server's fault.
        """
        if self._progress >= self._limits.stall_bytes:
            self._progress, self._waited = 0, 0.0
        began = time.monotonic()
        try:
            halt.wait(self._wire.sock.fileno(), events, self._limits.stall_seconds - self._waited)
        except TimeoutError:
            raise TimeoutFault("read tcp: i/o timeout") from None
        self._waited += time.monotonic() - began
        if self._waited >= self._limits.stall_seconds:
            raise TimeoutFault("read tcp: i/o timeout")
