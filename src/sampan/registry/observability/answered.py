"""What was answered to a request, for those who write it down."""

from __future__ import annotations

from typing import Any

from starlette.types import Scope, Send


class Answered:
    """Sends an answer on, and keeps its status and the bytes of its body; 0 if there was none."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self.status = self.sent = 0

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._scope["method"] != "HEAD":
                lengths = [v for k, v in message["headers"] if k == b"content-length"]
                self.sent = int(lengths[0]) if lengths else 0
        await self._send(message)
