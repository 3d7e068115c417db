"""The access log: one line in Apache's combined format for each request that was answered."""

from __future__ import annotations

import time
from typing import TextIO

from starlette.types import ASGIApp, Receive, Scope, Send

from sampan.registry.observability.answered import Answered

_CONTROL = {n: f"\\x{n:02x}" for n in (*range(32), 127, *range(128, 160))} | {34: '\\"', 92: "\\\\"}


class AccessLog:
    """An application around another one, that writes down what was asked and answered."""

    def __init__(self, application: ASGIApp, out: TextIO) -> None:
        self._application = application
        self._out = out

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
                self._out.write(line(scope, answered.status, answered.sent, begun))
                self._out.flush()


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
