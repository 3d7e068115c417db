"""What granian does not do for an application: answers to HEAD without bodies, ends of answers that
nobody reads, answers that a client hears who still sends, and no more requests of one client at
once than others can bear.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sampan.http.asgi import STALL_SECONDS
from sampan.http.peers import Turns, plain
from sampan.registry.serving.crowd import Crowd
from sampan.registry.serving.server import LIMITS, PATHSEND

SKIPPED = 32 << 20  # bytes of a body that nobody wants, and that are read all the same


class Bounded:
    """An application within bounds."""

    def __init__(self, application: ASGIApp, crowd: Crowd, turns: Turns) -> None:
        self._application = application
        self._crowd = crowd
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host, port = scope.get("client") or ("", 0)
        peer = (plain(str(host)), int(port or 0))
        scope = {**scope, "client": peer}
        if scope.get("http_version") == "2":
            # A file that granian sends is over for us at once. With a connection for each, that
            # is well; but of streams a client has many, and could leave them all unread.
            known = {k: v for k, v in scope.get("extensions", {}).items() if k != PATHSEND}
            scope = {**scope, "extensions": known}
        answer = _Answer(receive, send, scope)
        self._crowd.begin(peer, time.monotonic())
        try:
            async with self._turns.turn(peer[0]):
                await self._application(scope, answer.receive, answer.send)
        except Abandoned:
            return  # nobody is there to be answered
        finally:
            self._crowd.end(peer, time.monotonic())
            await answer.close()


class Abandoned(ConnectionError):
    """The client does not read, or has gone."""


class _Answer:
    """An answer on its way through granian, which takes pieces also for those who have gone."""

    def __init__(self, receive: Receive, send: Send, scope: Scope) -> None:
        self._receive, self._send = receive, send
        self._head_only = scope.get("method") == "HEAD"
        self._is_unread = _comes_unasked(scope)  # there is more of the request's body
        self._watching: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body"):
            self._is_unread = False
        return message

    async def _skip(self) -> None:
        """Read what is left of a body, as far as that is soon done.

        To answer earlier would end the connection, and with it the answer, while the client sends.
        """
        left = SKIPPED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMITS.linger_seconds):
                while self._is_unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._skip()
        body = message["type"] == "http.response.body"
        if body and self._head_only:
            message = {**message, "body": b""}
        if body and message.get("more_body"):
            if self._watching is None:
                self._watching = asyncio.create_task(self._watch())
            await asyncio.sleep(0)  # granian takes what nobody wants at once
            if self._watching.done():
                raise Abandoned("the client has gone")
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._send(message)
        except TimeoutError:
            raise Abandoned("the client reads nothing") from None

    async def _watch(self) -> None:
        """Return when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def close(self) -> None:
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching


def _comes_unasked(scope: Scope) -> bool:
    """Tell whether a request has a body that its client sends without waiting for a word of ours.

    Streams of HTTP/2 are ended one by one, and lose no answers.
    """
    headers = dict(scope["headers"])
    has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    return has_body and b"expect" not in headers and scope.get("http_version") != "2"
