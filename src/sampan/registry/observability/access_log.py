"""The access log: one line in Apache's combined format for each request that was answered."""

from __future__ import annotations

import logging
import time
from typing import TextIO

from starlette.types import ASGIApp, Receive, Scope, Send

from sampan.registry.observability.answered import Answered

log = logging.getLogger(__name__)
_CONTROL = {n: f"\\x{n:02x}" for n in (*range(32), 127, *range(128, 160))} | {34: '\\"', 92: "\\\\"}


class AccessLog:
    """An application around another one, that writes down what was asked and answered."""

    def __init__(self, application: ASGIApp, out: TextIO) -> None:
        self._application = application
        self._out = out
        self._fails = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        begun = time.time()
        answered = Answered(scope, send)
        try:
            await self._application(scope, receive, answered)
        finally:
            if answered.status:
                self._write(line(scope, answered.status, answered.sent, begun))

    def _write(self, text: str) -> None:
        """Write a line; where that fails, nobody who asks has to suffer for it."""
        try:
            self._out.write(text)
            self._out.flush()
        except OSError as error:
            if not self._fails:
                log.error("the access log is not written: %s", error)
            self._fails = True
        else:
            self._fails = False


def line(scope: Scope, status: int, sent: int, begun: float) -> str:
    """Return one line; what clients choose cannot break it or reach a terminal."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    client = (scope.get("client") or ("-",))[0]
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(begun))
    target = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    target = f"{target}?{query}" if query else target
    request = f"{scope['method']} {target} HTTP/{scope['http_version']}".translate(_CONTROL)
    referrer = headers.get(b"referer", "").translate(_CONTROL)
    agent = headers.get(b"user-agent", "").translate(_CONTROL)
    return f'{client} - - [{moment}] "{request}" {status} {sent} "{referrer}" "{agent}"\n'
