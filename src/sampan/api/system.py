"""The engine as a whole: ping, info, version, events, disk usage; and what is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from sampan.api.codec import json_line, json_response
from sampan.api.filters import parse_filters
from sampan.api.handler import Backend, Handler
from sampan.api.timestamps import parse_moment
from sampan.api.versions import shaped
from sampan.engine.system import OBJECTS
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.http.response import Response, StreamingResponse
from sampan.http.router import Routes
from sampan.spec.docker.events import EventMessage, legacy
from sampan.spec.docker.system import BuildCache
from sampan.spec.image import timestamp

if TYPE_CHECKING:
    from sampan.build.caching.pruning import Usage

routes: Routes[Handler] = Routes()
PING = [
    ("Builder-Version", "1"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Swarm", "inactive"),
]


@routes.on("GET", "/_ping")
@routes.on("HEAD", "/_ping")
async def ping(backend: Backend, request: Request) -> Response:
    if request.method == "HEAD":
        headers = [*PING, ("Content-Length", "0"), ("Content-Type", "text/plain; charset=utf-8")]
        return Response(200, headers=headers)
    return Response(200, b"OK", [*PING], "text/plain; charset=utf-8")


@routes.on("GET", "/info")
async def info(backend: Backend, request: Request) -> Response:
    return json_response(200, shaped("SystemInfo", await backend.system.info(), request.version))


@routes.on("GET", "/version")
async def version(backend: Backend, request: Request) -> Response:
    return json_response(200, backend.system.version())


@routes.on("GET", "/system/df")
async def disk_usage(backend: Backend, request: Request) -> Response:
    objects = frozenset(request.query.all("type"))
    if request.version < (1, 42) or not objects:
        objects = OBJECTS
    for kind in objects - OBJECTS:
        raise InvalidArgument(f"unknown object type: {kind}")
    usage = await backend.system.disk_usage(objects, verbose=request.query.boolean("verbose"))
    if "build-cache" in objects and backend.has_builder:
        usage.build_cache = [_cached(one) for one in await backend.builder.housekeeping.usages()]
    return json_response(200, shaped("DiskUsage", usage, request.version))


def _cached(one: Usage) -> BuildCache:
    record = one.record
    return BuildCache(
        id=one.id,
        parents=list(one.parents) or msgspec.UNSET,
        type=one.type,
        description=record.description,
        shared=one.shared,
        size=one.size,
        created_at=timestamp(record.created),
        last_used_at=timestamp(record.used),
        usage_count=record.uses,
    )


@routes.on("GET", "/plugins")
async def plugins(backend: Backend, request: Request) -> Response:
    return json_response(200, [])


@routes.on("GET", "/system/check")
async def check(backend: Backend, request: Request) -> Response:
    request.cancel_when_client_leaves()
    return json_response(200, await backend.images.check())


@routes.on("POST", "/system/check")
async def check_and_repair(backend: Backend, request: Request) -> Response:
    repair = request.query.boolean("repair")
    return json_response(200, await backend.images.check(repair=repair))


# --- events -----------------------------------------------------------------------------------


@routes.on("GET", "/events")
async def events(backend: Backend, request: Request) -> StreamingResponse:
    since = parse_moment(request.query.get("since"), "since")
    until = parse_moment(request.query.get("until"), "until")
    if since and until and until < since:
        raise InvalidArgument(
            f"`since` time ({request.query.get('since')}) cannot be after "
            f"`until` time ({request.query.get('until')})"
        )
    found = backend.events.subscribe(
        since=since or 0, until=until or 0, filters=parse_filters(request)
    )
    request.cancel_when_client_leaves()
    return StreamingResponse(200, _lines(found, request))


async def _lines(found: AsyncIterator[EventMessage], request: Request) -> AsyncIterator[bytes]:
    hides_creation = request.version < (1, 46)  # of images: an event since 1.46
    async for event in found:
        if not (hides_creation and event.type == "image" and event.action == "create"):
            yield json_line(legacy(event))
