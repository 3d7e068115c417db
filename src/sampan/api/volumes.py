"""Volumes."""

from __future__ import annotations

from sampan.api.codec import json_response, read_json
from sampan.api.filters import parse_filters
from sampan.api.handler import Backend, Handler
from sampan.errors import Unavailable
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.router import Routes
from sampan.spec.docker.volumes import VolumeCreateRequest

routes: Routes[Handler] = Routes()


@routes.on("GET", "/volumes")
async def list_volumes(backend: Backend, request: Request) -> Response:
    return json_response(200, await backend.volumes.list(parse_filters(request)))


@routes.on("GET", "/volumes/{name:.*}")
async def inspect(backend: Backend, request: Request, name: str) -> Response:
    return json_response(200, await backend.volumes.inspect(name))


@routes.on("POST", "/volumes/create")
async def create(backend: Backend, request: Request) -> Response:
    body = await read_json(request, VolumeCreateRequest)
    return json_response(201, await backend.volumes.create(body))


@routes.on("POST", "/volumes/prune")
async def prune(backend: Backend, request: Request) -> Response:
    filters = dict(parse_filters(request))
    if request.version < (1, 42):
        filters["all"] = ["true"]  # the distinction came with that version
    return json_response(200, await backend.volumes.prune(filters))


@routes.on("PUT", "/volumes/{name:.*}")
async def update(backend: Backend, request: Request, name: str) -> Response:
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


@routes.on("DELETE", "/volumes/{name:.*}")
async def remove(backend: Backend, request: Request, name: str) -> Response:
    await backend.volumes.remove(name, force=request.query.boolean("force"))
    return Response(204)
