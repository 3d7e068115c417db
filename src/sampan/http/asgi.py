"""ASGI applications on our own server: HTTP/1.1, files by sendfile(2).

Without TLS an application finds `SENDFILE` among the extensions of a request, and may send, instead
of a body,

    {"type": SENDFILE, "file": descriptor, "offset": 0, "count": bytes}

and, where a request's body has a length, `POUR`: a function that gives the body to another one, in
a thread (see `LengthBody.pour`), in the place of receiving it.

Only heads go through h11; bodies go from the socket to the application as they are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

import h11

from sampan.errors import InvalidArgument
from sampan.http.bodies import Body, ChunkedBody, CutOff, LengthBody, Sink
from sampan.http.connection import (
    BODILESS,
    REASONS,
    Connection,
    Date,
    plain_refusal,
)
from sampan.http.limits import Limits
from sampan.http.peers import plain
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.server import Server
from sampan.http.stream import SocketStream, Stream, TLSStream, ready

log = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Application = Callable[
    [Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
SENDFILE = "sampan.sendfile"
POUR = "sampan.pour"
THREADS = 8  # that wait for the disks from which files are sent
STEP = 4 << 20  # bytes that a thread sends before others have their turn
STALL_SECONDS = 300.0  # that a client may let us wait, within a body or an answer
_HEADER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\r\n\0]*")
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class AsgiServer(Server):
    """Serves one ASGI application on any number of listening sockets."""

    def __init__(self, application: Application, limits: Limits | None = None) -> None:
        super().__init__(_no_handler, limits=limits)
        self._application = application
        self._threads = ThreadPoolExecutor(THREADS, "sendfile")

    def _connect(self, stream: Stream) -> Connection:
        return AsgiConnection(stream, self._application, self.limits, self._threads)

    async def stop(self) -> None:
        await super().stop()
        self._threads.shutdown()


async def _no_handler(request: Request) -> Response:
    return plain_refusal(500, "an application answers here")


class AsgiConnection(Connection):
    """One client of an application."""

    def __init__(
        self,
        stream: Stream,
        application: Application,
        limits: Limits,
        threads: ThreadPoolExecutor,
    ) -> None:
        super().__init__(stream, _no_handler, limits, [])
        self._application = application
        self._threads = threads
        self._client = _address(stream.sock.getpeername)
        self._server = _address(stream.sock.getsockname)
        self._scheme = "https" if isinstance(stream, TLSStream) else "http"
        self._keep = True
        self._waits = False  # the client waits for `100 Continue`
        self._body: Body = LengthBody(stream, 0)
        self._gone = False
        self._malformed = ""

    def _begin_next(self) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)

    async def _serve(self, head: h11.Request) -> bool:
        headers = dict(head.headers)
        options = [value for name, value in head.headers if name == b"connection"]
        self._keep = _is_kept(head.http_version, b",".join(options))
        self._waits = headers.get(b"expect", b"").lower() == b"100-continue"
        early, _ = self._h11.trailing_data
        if early:
            self._stream.push_back(early)
        if b"transfer-encoding" in headers:
            self._body = ChunkedBody(self._stream)
        else:
            self._body = LengthBody(self._stream, int(headers.get(b"content-length", b"0")))
        answer = AsgiAnswer(self._stream, head, self._keep, self._send_file)
        try:
            await self._application(self._scope(head), self._receive, answer.send)
        except OSError:
            raise  # the connection is gone, or must go
        except Exception:
            log.exception("an application failed")
        self._keep = self._keep and answer.keep
        if self._gone:
            return True
        if not answer.begun:
            self._keep = False
            refusal = (400, self._malformed) if self._malformed else (500, "no answer was given")
            await self._refuse_request(*refusal, head.method == b"HEAD")
        elif not answer.complete:
            raise ConnectionAbortedError("the answer could not be completed")
        return True

    async def _refuse_request(self, status: int, why: str, head_only: bool) -> None:
        answer = plain_refusal(status, why)
        answer.headers.append(("Connection", "close"))
        await self._send(answer, head_only)

    def _scope(self, head: h11.Request) -> Message:
        target = head.target
        if not target.startswith(b"/") and (absolute := _ABSOLUTE.match(target)):
            target = target[absolute.end() :]
            target = target if target.startswith(b"/") else b"/" + target
        path, _, query = target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.http_version.decode(),
            "method": head.method.decode(),
            "scheme": self._scheme,
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(head.headers),
            "client": self._client,
            "server": self._server,
            "extensions": self._extensions(),
        }

    def _extensions(self) -> dict[str, Any]:
        if not isinstance(self._stream, SocketStream):
            return {}  # what passes TLS passes through this process
        pours = isinstance(self._body, LengthBody)
        return {SENDFILE: {}, **({POUR: self._pour} if pours else {})}

    async def _go_on(self) -> None:
        if self._waits:
            self._waits = False
            async with asyncio.timeout(STALL_SECONDS):
                await self._stream.send(_CONTINUE)

    async def _pour(self, sink: Sink, threads: Executor, idle_seconds: float) -> None:
        assert isinstance(self._body, LengthBody)
        try:
            await self._go_on()
            await self._body.pour(sink, threads, idle_seconds)
        except CutOff:
            self._keep, self._gone = False, True
            raise

    async def _receive(self) -> Message:
        try:
            await self._go_on()
            async with asyncio.timeout(STALL_SECONDS):
                data = await self._body.read()
        except OSError:
            self._keep, self._gone = False, True
            return {"type": "http.disconnect"}
        except InvalidArgument as error:
            self._keep, self._malformed = False, f"malformed request body: {error}"
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": data, "more_body": not self._body.complete}

    async def _rest_is_read(self) -> bool:
        if self._gone:
            return False
        if not self._body.complete:
            skipped = False
            if self._keep and not self._waits:
                try:
                    async with asyncio.timeout(self._limits.linger_seconds):
                        skipped = await self._skip(self._limits.drain_bytes)
                except (TimeoutError, OSError, InvalidArgument):
                    return False
            self._keep = skipped
        if not self._keep:
            await self._linger()
        return self._keep

    async def _skip(self, limit: int) -> bool:
        while not self._body.complete:
            limit -= len(await self._body.read())
            if limit < 0:
                return False
        return True

    async def _send_file(self, file: int, offset: int, count: int) -> None:
        """Send a part of a file. A disk that is slow keeps only a thread waiting."""
        loop = asyncio.get_running_loop()
        sock = self._stream.sock
        while count:
            step = loop.run_in_executor(self._threads, _send_some, sock, file, offset, count)
            try:
                sent, full = await asyncio.shield(step)
            except asyncio.CancelledError:
                await asyncio.wait([step])  # nobody may close what a thread still uses
                raise
            offset += sent
            count -= sent
            if count and full:
                async with asyncio.timeout(STALL_SECONDS):
                    await ready(loop.add_writer, loop.remove_writer, sock.fileno())


def _send_some(sock: socket.socket, file: int, offset: int, count: int) -> tuple[int, bool]:
    """Send up to `STEP` bytes; return how many, and whether the socket is full."""
    sent, most = 0, min(count, STEP)
    while sent < most:
        try:
            now = os.sendfile(sock.fileno(), file, offset + sent, most - sent)
        except BlockingIOError:
            return sent, True
        if not now:
            raise ConnectionAbortedError("the file ends too early")
        sent += now
    return sent, False


class AsgiAnswer:
    """What an application sends, on its way to the client."""

    def __init__(
        self,
        stream: Stream,
        head: h11.Request,
        keep: bool,
        send_file: Callable[[int, int, int], Awaitable[None]],
    ) -> None:
        self._stream = stream
        self._send_file = send_file
        self._head_only = head.method == b"HEAD"
        self._chunks_allowed = head.http_version == b"1.1"
        self.keep = keep  # the connection may serve another request
        self._start: Message | None = None
        self._left = 0  # bytes of the body to come, of a length that was told
        self._endless = False  # the body ends with the connection, as HTTP/1.0 has it
        self._chunked = False
        self.begun = self.complete = False

    async def send(self, message: Message) -> None:
        """Take one message of ASGI."""
        kind = message["type"]
        if kind == "http.response.start":
            self._start = message
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), message.get("more_body", False))
        elif kind == SENDFILE:
            await self._write(self._head(message["count"]))
            if not self._head_only:
                self._take(message["count"])
                await self._send_file(message["file"], message["offset"], message["count"])
            self._end()
        else:
            raise ValueError(f"{kind} is no message that we know")

    async def _send_body(self, body: bytes, more: bool) -> None:
        parts = [] if self.begun else [self._head(None if more else len(body))]
        if body and not self._head_only:
            if self._chunked:
                parts += [b"%x\r\n" % len(body), body, b"\r\n"]
            else:
                self._take(len(body))
                parts.append(body)
        if not more and self._chunked:
            parts.append(b"0\r\n\r\n")
        await self._write(*parts)
        if not more:
            self._end()

    async def _write(self, *parts: bytes) -> None:
        async with asyncio.timeout(STALL_SECONDS):
            await self._stream.send(*parts)

    def _take(self, count: int) -> None:
        self._left -= 0 if self._endless else count
        if self._left < 0:
            raise ValueError("the body is longer than its Content-Length")

    def _end(self) -> None:
        self.complete = self._head_only or self._chunked or self._left == 0

    def _head(self, length: int | None) -> bytes:
        """Return the head; `length` is that of the body if it is not told otherwise."""
        if self._start is None:
            raise ValueError("the body comes before the status")
        status = self._start["status"]
        lines, told, dated = [], None, False
        for name, value in self._start.get("headers", ()):
            line = name + b": " + value
            if not _HEADER.fullmatch(line):
                raise ValueError(f"{name!r} cannot be a header")
            lower = name.lower()
            told = int(value) if lower == b"content-length" else told
            dated = dated or lower == b"date"
            lines.append(line)
        bodiless = status in BODILESS
        if told is None and not bodiless:
            if length is not None:
                lines.append(b"content-length: %d" % length)
                told = length
            elif self._chunks_allowed:
                lines.append(b"transfer-encoding: chunked")
                self._chunked = not self._head_only
            else:
                self._endless, self.keep = True, False
        self._head_only = self._head_only or bodiless
        self._left = told or 0
        if not self.keep:
            lines.append(b"connection: close")
        if not dated:
            lines.append(b"date: " + Date.now())
        self.begun = True
        first = b"HTTP/1.1 %d %s" % (status, REASONS.get(status, b""))
        return b"\r\n".join([first, *lines, b"\r\n"])


def _is_kept(version: bytes, connection: bytes) -> bool:
    options = {option.strip() for option in connection.lower().split(b",")}
    return b"close" not in options and (version == b"1.1" or b"keep-alive" in options)


def _address(of: Callable[[], Any]) -> tuple[str, int | None] | None:
    try:
        found = of()
    except OSError:
        return None
    if isinstance(found, tuple):
        return plain(str(found[0])), int(found[1])
    return (str(found), None) if found else None
