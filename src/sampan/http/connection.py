"""One client's connection: requests one after the other, until it closes or takes over."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus

import h11

from sampan.errors import InvalidArgument, SampanError
from sampan.http.limits import Limits
from sampan.http.request import Exchange, Headers, Request
from sampan.http.response import Response, StreamingResponse
from sampan.http.stream import CHUNK, Stream

log = logging.getLogger(__name__)

Answer = Response | StreamingResponse | None  # None: the handler took the connection over
Handler = Callable[[Request], Awaitable[Answer]]
Refusal = Callable[[int, str], Response]
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
BODILESS = frozenset({204, 304})
_END = re.compile(rb"\n\r?\n")  # of a head


def plain_refusal(status: int, sentence: str) -> Response:
    """Return the answer to what is not even HTTP."""
    return Response(status, f"{sentence}\n".encode(), content_type="text/plain; charset=utf-8")


class Date:
    """The Date header, made once per second."""

    second = 0
    value = b""

    @classmethod
    def now(cls) -> bytes:
        if (second := int(time.time())) != cls.second:
            cls.second, cls.value = second, formatdate(second, usegmt=True).encode()
        return cls.value


def _is_preface(head: h11.Request) -> bool:
    """Tell whether a client speaks HTTP/2 from the first byte on (RFC 9113, 3.4)."""
    return (head.method, head.target, head.http_version) == (b"PRI", b"*", b"2.0")


def _check_head(head: h11.Request) -> None:
    if head.http_version not in (b"1.0", b"1.1"):
        raise h11.RemoteProtocolError("unsupported HTTP version", error_status_hint=505)
    names = {name for name, _ in head.headers}
    if b"transfer-encoding" in names and head.http_version == b"1.0":
        # RFC 9112, 6.1: a proxy of HTTP/1.0 sees the end of the request elsewhere
        raise h11.RemoteProtocolError("Transfer-Encoding is not of HTTP/1.0")
    if b"transfer-encoding" in names and b"content-length" in names:
        # RFC 9112, 6.3: the mark of request smuggling
        raise h11.RemoteProtocolError("both Transfer-Encoding and Content-Length are set")


class Connection:
    """Reads requests, asks the handler, writes its answers."""

    def __init__(
        self,
        stream: Stream,
        handler: Handler,
        limits: Limits,
        headers: list[tuple[bytes, bytes]],
        refuse: Refusal = plain_refusal,
        *,
        http2: bool = False,
    ) -> None:
        self._stream = stream
        self._http2 = http2
        self._handler = handler
        self._limits = limits
        self._headers = headers
        self._refuse = refuse
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._taken_over = False
        self._task: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.idle = True  # between requests: may be closed at any time
        self.endless = False  # the answer ends when the client leaves: do not wait for it

    async def run(self) -> None:
        """Serve until the client or a limit ends the connection, then close it."""
        self._task = asyncio.current_task()
        try:
            while await self._exchange():
                self._begin_next()
                self.idle = True
                await asyncio.sleep(0)  # requests that were sent ahead wait for those of others
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            log.debug("connection ended: %s", error)
        finally:
            await self._stop_watching()
            self._stream.close(clean=self.idle)

    def _begin_next(self) -> None:
        """Be ready for the head of another request."""
        self._h11.start_next_cycle()

    async def _exchange(self) -> bool:
        """Serve one request; return whether another may follow."""
        try:
            head = await self._next_head()
        except h11.RemoteProtocolError as error:
            await self._refuse_head(error)
            return False
        if head is None:
            return False
        try:
            if not await self._serve(head):
                return False
        finally:
            await self._stop_watching()
            self.endless = False
        return await self._rest_is_read()

    async def _serve(self, head: h11.Request) -> bool:
        """Answer one request; return False if the connection was taken over by the handler."""
        exchange = Exchange(self._chunks, self._take_over, self._watch)
        request = Request(
            head.method.decode("ascii"),
            head.target.decode("latin-1"),
            Headers(list(head.headers)),
            exchange,
        )
        answer = await self._handler(request)
        if self._taken_over:
            await self._linger()
            return False
        if answer is None:
            answer = self._refuse(500, "no answer was given")
        await self._send(answer, head.method == b"HEAD")
        return True

    # --- reading -----------------------------------------------------------------------------

    async def _next_head(self) -> h11.Request | None:
        """Return the next request's head; None if the client has closed between requests."""
        event = self._next_event()
        if event is h11.NEED_DATA and not self._h11.trailing_data[0]:
            self.idle = True
            async with asyncio.timeout(self._limits.idle_seconds):
                self._h11.receive_data(await self._stream.receive())
            event = self._next_event()
        self.idle = False
        if event is h11.NEED_DATA:
            async with asyncio.timeout(self._limits.head_seconds):
                while event is h11.NEED_DATA:
                    self._h11.receive_data(await self._stream.receive())
                    event = self._next_event()
        if not isinstance(event, h11.Request):
            return None
        if not (self._http2 and _is_preface(event)):
            _check_head(event)
        return event

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        data, _ = self._h11.trailing_data
        # What is less than all lines of a head needs no look at where it ends.
        if data.count(b"\n") > self._limits.head_lines:
            end = _END.search(data)
            if data.count(b"\n", 0, end.start() if end else None) > self._limits.head_lines:
                raise h11.RemoteProtocolError("too many headers", error_status_hint=431)
        return self._h11.next_event()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise InvalidArgument(f"malformed request body: {error}") from error
            if event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(
                        status_code=100, headers=[], reason=b"Continue"
                    )
                    await self._stream.send(self._h11.send(go_on) or b"")
                try:
                    self._h11.receive_data(await self._stream.receive())
                except OSError as error:
                    raise InvalidArgument(f"the client went away: {error}") from error
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    async def _rest_is_read(self) -> bool:
        """Skip what the handler left of the body; False if the connection cannot go on."""
        if self._h11.their_state is h11.SEND_BODY:
            if self._h11.they_are_waiting_for_100_continue:
                await self._linger()
                return False
            try:
                async with asyncio.timeout(self._limits.linger_seconds):
                    if not await self._skip(self._limits.drain_bytes):
                        await self._linger()
                        return False
            except (TimeoutError, InvalidArgument):
                return False
        if self._h11.our_state is h11.MUST_CLOSE or self._h11.their_state is h11.MUST_CLOSE:
            await self._linger()
            return False
        # MIGHT_SWITCH_PROTOCOL: an upgrade that was answered by an ordinary response
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def _skip(self, limit: int) -> bool:
        async for piece in self._chunks():
            limit -= len(piece)
            if limit < 0:
                return False
        return True

    # --- writing -----------------------------------------------------------------------------

    async def _send(self, answer: Response | StreamingResponse, head_only: bool) -> None:
        if isinstance(answer, StreamingResponse):
            await self._send_stream(answer, head_only)
            return
        head = self._head(answer)
        if answer.status in BODILESS:
            body = b""
        else:
            body = answer.body
            if body or not head_only:
                head.append((b"Content-Length", b"%d" % len(body)))
            if body:
                head.append((b"Content-Type", answer.content_type.encode("latin-1")))
        parts = [self._start(answer.status, head)]
        if body and not head_only:
            parts.append(self._h11.send(h11.Data(data=body)) or b"")
        parts.append(self._h11.send(h11.EndOfMessage()) or b"")
        async with asyncio.timeout(self._limits.send_seconds):
            await self._stream.send(*parts)

    async def _send_stream(self, answer: StreamingResponse, head_only: bool) -> None:
        head = self._head(answer)
        head.append((b"Content-Type", answer.content_type.encode("latin-1")))
        try:
            await self._stream.send(self._start(answer.status, head))
            if not head_only:
                async for piece in answer.chunks:
                    if piece:
                        data = h11.Data(data=piece)
                        parts = self._h11.send_with_data_passthrough(data) or []
                        await self._stream.send(*parts)
            await self._stream.send(self._h11.send(h11.EndOfMessage()) or b"")
        except (OSError, asyncio.CancelledError):
            raise
        except Exception as error:
            level = logging.INFO if isinstance(error, SampanError) else logging.ERROR
            log.log(level, "a streamed answer was cut: %s", error, exc_info=level > logging.INFO)
            raise ConnectionAbortedError("the answer could not be completed") from error
        finally:
            close = getattr(answer.chunks, "aclose", None)
            if close:
                await close()

    def _head(self, answer: Response | StreamingResponse) -> list[tuple[bytes, bytes]]:
        head = [*self._headers, (b"Date", Date.now())]
        for name, value in answer.headers:
            head.append((name.encode("latin-1"), value.encode("latin-1", "replace")))
        return head

    def _start(self, status: int, head: list[tuple[bytes, bytes]]) -> bytes:
        reason = REASONS.get(status, b"")
        return self._h11.send(h11.Response(status_code=status, headers=head, reason=reason)) or b""

    async def _refuse_head(self, error: h11.RemoteProtocolError) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        answer = self._refuse(error.error_status_hint, f"malformed HTTP request: {error}")
        answer.headers.append(("Connection", "close"))
        await self._send(answer, head_only=False)
        await self._linger()

    async def _linger(self) -> None:
        """Close our side and wait for the client to close its own.

        To close while bytes of the client are unread would be a reset, and could cost it the
        end of our answer.
        """
        await self._stream.close_write()
        try:
            async with asyncio.timeout(self._limits.linger_seconds):
                while await self._stream.receive(CHUNK):
                    pass
        except (TimeoutError, OSError):
            pass

    # --- taking over and watching ------------------------------------------------------------

    async def _take_over(self, head: bytes) -> Stream:
        if self._h11.their_state is h11.SEND_BODY and not await self._skip(
            self._limits.drain_bytes
        ):
            raise InvalidArgument("the body of a request that takes over is too large")
        early, _ = self._h11.trailing_data
        await self._stop_watching()
        if early:
            self._stream.push_back(early)
        self._taken_over = self.endless = True
        with suppress(OSError):  # a client that is gone is found at the end of its input
            await self._stream.send(head)
        return self._stream

    def _watch(self) -> None:
        self.endless = True
        if self._watcher is None:
            self._watcher = asyncio.ensure_future(self._stream.hung_up())
            self._watcher.add_done_callback(self._left)

    def _left(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled() and watcher.exception() is None and self._task:
            self._task.cancel()

    async def _stop_watching(self) -> None:
        """End the watcher and wait for it: it takes its reader off the socket at its end."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.remove_done_callback(self._left)
            watcher.cancel()
            await asyncio.wait((watcher,))
