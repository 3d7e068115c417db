"""Volumes: named ones do not exist yet, and the answers say so."""

from __future__ import annotations

from sampan.api.codec import json_response
from sampan.api.filters import parse_filters
from sampan.api.handler import Backend, Handler
from sampan.errors import InvalidArgument, NotFound, Unsupported
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.router import Routes
from sampan.spec.docker.volumes import VolumeListResponse, VolumesPruneReport

routes: Routes[Handler] = Routes()
LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_FILTERS = frozenset({"all", "label", "label!"})


def _check_filters(request: Request, accepted: frozenset[str]) -> None:
    for name in parse_filters(request):
        if name not in accepted:
            raise InvalidArgument(f"invalid filter '{name}'")


@routes.on("GET", "/volumes")
async def list_volumes(backend: Backend, request: Request) -> Response:
    _check_filters(request, LIST_FILTERS)
    return json_response(200, VolumeListResponse())


@routes.on("GET", "/volumes/{name:.*}")
async def inspect(backend: Backend, request: Request, name: str) -> Response:
    raise NotFound(f"get {name}: no such volume")


@routes.on("POST", "/volumes/create")
async def create(backend: Backend, request: Request) -> Response:
    raise Unsupported("named volumes are not available in this version; bind a folder of the host")


@routes.on("POST", "/volumes/prune")
async def prune(backend: Backend, request: Request) -> Response:
    _check_filters(request, PRUNE_FILTERS)
    return json_response(200, VolumesPruneReport())


@routes.on("DELETE", "/volumes/{name:.*}")
async def remove(backend: Backend, request: Request, name: str) -> Response:
    if request.query.boolean("force"):
        return Response(204)
    raise NotFound(f"get {name}: no such volume")
