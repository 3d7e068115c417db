"""Images: list, inspect, tag, remove, prune."""

from __future__ import annotations

from sampan.api.codec import json_response
from sampan.api.filters import parse_filters
from sampan.api.handler import Backend, Handler
from sampan.api.platforms import platform_of, platforms_of
from sampan.api.versions import shaped
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.router import Routes

routes: Routes[Handler] = Routes()


@routes.on("GET", "/images/json")
async def list_images(backend: Backend, request: Request) -> Response:
    filters = parse_filters(request)
    query, version = request.query, request.version
    if version < (1, 25) and query.get("filter"):
        filters.setdefault("reference", []).append(query.get("filter"))
    shared_size = version >= (1, 42) and query.boolean("shared-size")
    summaries = await backend.images.summaries(
        filters,
        all=query.boolean("all"),
        shared_size=shared_size,
        manifests=version >= (1, 47) and query.boolean("manifests"),
    )
    return json_response(200, shaped("ImageSummary", summaries, version))


@routes.on("GET", "/images/{name:.*}/json")
async def inspect(backend: Backend, request: Request, name: str) -> Response:
    platform = platform_of(request, "platform") if request.version >= (1, 49) else None
    manifests = request.version >= (1, 48) and request.query.boolean("manifests")
    if manifests and platform is not None:
        raise InvalidArgument(
            "conflicting options: manifests and platform options cannot both be set"
        )
    image = await backend.images.inspect(name, platform, manifests=manifests)
    return json_response(200, shaped("ImageInspect", image, request.version))


@routes.on("GET", "/images/{name:.*}/history")
async def history(backend: Backend, request: Request, name: str) -> Response:
    platform = platform_of(request, "platform") if request.version >= (1, 48) else None
    return json_response(200, await backend.images.history(name, platform))


@routes.on("POST", "/images/{name:.*}/tag")
async def tag(backend: Backend, request: Request, name: str) -> Response:
    repo = request.query.get("repo")
    if not repo:
        raise InvalidArgument("invalid reference format")
    await backend.images.tag(name, repo, request.query.get("tag"))
    return Response(201)


@routes.on("POST", "/images/prune")
async def prune(backend: Backend, request: Request) -> Response:
    return json_response(200, await backend.images.prune(parse_filters(request)))


@routes.on("DELETE", "/images/{name:.*}")
async def remove(backend: Backend, request: Request, name: str) -> Response:
    if not name.strip():
        raise InvalidArgument("image name cannot be blank")
    platforms = platforms_of(request, "platforms") if request.version >= (1, 50) else []
    removed = await backend.images.remove(
        name,
        force=request.query.boolean("force"),
        prune_parents=not request.query.boolean("noprune"),
        platforms=platforms,
    )
    return json_response(200, removed)
