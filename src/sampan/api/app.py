"""The Docker Engine API as one handler: version prefix, routes, errors."""

from __future__ import annotations

import asyncio
import logging
import posixpath
import re
from collections.abc import Awaitable, Callable

from sampan.api import (
    build,
    containers,
    containers_archive,
    containers_streams,
    execs,
    images,
    images_archive,
    networks,
    plugs,
    registries,
    swarm,
    system,
    volumes,
    websocket,
)
from sampan.api.buildkit import routes as buildkit_routes
from sampan.api.errors import answer_to, refusal, status_of
from sampan.api.handler import Backend, Handler
from sampan.api.versions import NEWEST, negotiate, show_version
from sampan.errors import SampanError
from sampan.http.connection import Answer
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.router import Router

log = logging.getLogger(__name__)
_VERSIONED = re.compile(r"/v([0-9.]+)(/.*)", re.DOTALL)
Check = Callable[[Request], Awaitable[None]]


def router() -> Router[Handler]:
    """Return every route of the API; the order counts where two patterns match one path."""
    return Router(
        system.routes,
        plugs.routes,
        containers.routes,
        containers_streams.routes,
        containers_archive.routes,
        websocket.routes,
        execs.routes,
        images_archive.routes,
        registries.routes,
        images.routes,
        networks.routes,
        volumes.routes,
        build.routes,
        buildkit_routes.routes,
        swarm.routes,
    )


def standing_headers(engine_version: str) -> list[tuple[str, str]]:
    """Return the headers of every answer."""
    return [
        ("Api-Version", show_version(NEWEST)),
        ("Docker-Experimental", "false"),
        ("Ostype", "linux"),
        ("Server", f"Docker/{engine_version} (linux)"),
    ]


class App:
    """Answers requests with the help of one engine."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._router = router()

    async def __call__(self, request: Request) -> Answer:
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - every failure is answered
            if (status := status_of(error)) >= 500 and status != 501:
                log.warning("%s %s: %s (%d)", request.method, request.raw_path, error, status)
            return answer_to(error)

    async def _answer(self, request: Request) -> Answer:
        path = request.path
        if request.is_http2 and path == "*":
            await buildkit_routes.prior_knowledge(self._backend, request)
            return None
        if "//" in path or "/." in path:
            return self._moved(request, path)
        if versioned := _VERSIONED.fullmatch(path):
            found = self._router.find(request.method, versioned[2])
            text = versioned[1]
        else:
            found = self._router.find(request.method, path)
            text = ""
        if found is None:
            return refusal(404, "page not found")
        request.version = NEWEST
        if text:
            try:
                request.version = negotiate(text)
            except SampanError as error:
                return answer_to(error)
        handler, parameters = found
        answer: Answer = await handler(self._backend, request, **parameters)
        return answer

    def _moved(self, request: Request, path: str) -> Response:
        """Send clients of an unclean path to the clean one, as Docker's router does."""
        clean = posixpath.normpath(path.replace("//", "/"))
        clean = "/" + clean.lstrip("/") + ("/" if path.endswith("/") and clean != "/" else "")
        if clean == path:
            return refusal(404, "page not found")
        where = clean + (f"?{request.raw_query}" if request.raw_query else "")
        safe = "".join(c if " " < c < "\x7f" else "%" + c.encode().hex("%").upper() for c in where)
        return Response(301, headers=[("Location", safe)])
