"""The debug port, for administrators, without any login: health, the switch for it, figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sampan.http.request import Request
from sampan.http.response import Response
from sampan.registry.foreign import is_foreign
from sampan.registry.observability.health import Health

if TYPE_CHECKING:
    from sampan.registry.observability.metrics import Metrics


def handler(
    health: Health, metrics: Metrics | None, metrics_path: str
) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers on the debug port."""

    async def answer(request: Request) -> Response:
        place = (request.method, request.path)
        told = {name: request.headers.get(name) for name in ("sec-fetch-site", "origin", "host")}
        if is_foreign(request.method, told, {}):  # there is no login that would keep it out
            return Response(
                403, b"a page of another site asks for this\n", content_type="text/plain"
            )
        if place == ("GET", "/debug/health"):
            failing = dict(health.sick())
            state = {**health.notes(), **failing}
            return Response(503 if failing else 200, json.dumps(state).encode())
        if place == ("POST", "/debug/health/down"):
            health.down_by_hand = True
            return Response(200)
        if place == ("POST", "/debug/health/up"):
            health.down_by_hand = False
            return Response(200)
        if place == ("GET", "/debug/vars"):
            return Response(200, json.dumps({"cmdline": sys.argv}).encode())
        if metrics and place == ("GET", metrics_path):
            return Response(200, metrics.text(), content_type=metrics.content_type)
        return Response(404, b"404 page not found\n", content_type="text/plain")

    return answer
