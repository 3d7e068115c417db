"""Containers: create, list, inspect, and what happens to them."""

from __future__ import annotations

from sampan.api.codec import json_response, read_json
from sampan.api.containers_compat import adapt, check_mounts
from sampan.api.filters import parse_filters
from sampan.api.handler import Backend, Handler
from sampan.api.versions import shaped
from sampan.engine.containers.queries import ListQuery
from sampan.errors import InvalidArgument
from sampan.http.request import UINT32_LIMIT, Request
from sampan.http.response import Response
from sampan.http.router import Routes
from sampan.spec.docker.config import Config
from sampan.spec.docker.containers import CommitResponse, CreateRequest, UpdateRequest

routes: Routes[Handler] = Routes()
SMALLEST_JSON = 7  # bytes: start takes shorter bodies for none, as Docker does


# --- create and look ---------------------------------------------------------------------------


@routes.on("POST", "/containers/create")
async def create(backend: Backend, request: Request) -> Response:
    body = await read_json(request, CreateRequest)
    warnings = adapt(body, request.version)
    check_mounts(body, request.version)
    platform = request.query.get("platform") if request.version >= (1, 41) else ""
    created = await backend.containers.create(body, request.query.get("name"), platform)
    created.warnings.extend(warnings)
    return json_response(201, created)


@routes.on("GET", "/containers/json")
async def list_containers(backend: Backend, request: Request) -> Response:
    query = ListQuery(
        all=request.query.boolean("all"),
        limit=request.query.integer("limit") or -1,
        size=request.query.boolean("size"),
        filters=parse_filters(request),
    )
    summaries = await backend.containers.list(query)
    return json_response(200, shaped("ContainerSummary", summaries, request.version))


@routes.on("GET", "/containers/{name:.*}/json")
async def inspect(backend: Backend, request: Request, name: str) -> Response:
    container = await backend.containers.inspect(name, size=request.query.boolean("size"))
    return json_response(200, shaped("ContainerInspect", container, request.version))


@routes.on("GET", "/containers/{name}/top")
async def top(backend: Backend, request: Request, name: str) -> Response:
    return json_response(200, await backend.containers.top(name, request.query.get("ps_args")))


@routes.on("GET", "/containers/{name}/changes")
async def changes(backend: Backend, request: Request, name: str) -> Response:
    return json_response(200, await backend.containers.changes(name))


# --- life cycle --------------------------------------------------------------------------------


@routes.on("POST", "/containers/{name}/start")
async def start(backend: Backend, request: Request, name: str) -> Response:
    length = request.content_length
    if length is None or length > SMALLEST_JSON:
        raise InvalidArgument(
            "starting container with non-empty request body was deprecated since API v1.22 "
            "and removed in v1.24"
        )
    await backend.containers.start(name)
    return Response(204)


def _signal(request: Request) -> str:
    return request.query.get("signal") if request.version >= (1, 42) else ""


@routes.on("POST", "/containers/{name}/stop")
async def stop(backend: Backend, request: Request, name: str) -> Response:
    await backend.containers.stop(name, _signal(request), request.query.integer("t"))
    return Response(204)


@routes.on("POST", "/containers/{name}/restart")
async def restart(backend: Backend, request: Request, name: str) -> Response:
    await backend.containers.restart(name, _signal(request), request.query.integer("t"))
    return Response(204)


@routes.on("POST", "/containers/{name}/kill")
async def kill(backend: Backend, request: Request, name: str) -> Response:
    await backend.containers.kill(name, request.query.get("signal"))
    return Response(204)


@routes.on("POST", "/containers/{name}/pause")
async def pause(backend: Backend, request: Request, name: str) -> Response:
    await backend.containers.pause(name)
    return Response(204)


@routes.on("POST", "/containers/{name}/unpause")
async def unpause(backend: Backend, request: Request, name: str) -> Response:
    await backend.containers.unpause(name)
    return Response(204)


@routes.on("POST", "/containers/{name}/rename")
async def rename(backend: Backend, request: Request, name: str) -> Response:
    await backend.containers.rename(name, request.query.get("name"))
    return Response(204)


@routes.on("POST", "/containers/{name}/update")
async def update(backend: Backend, request: Request, name: str) -> Response:
    body = await read_json(request, UpdateRequest)
    return json_response(200, await backend.containers.update(name, body))


@routes.on("POST", "/containers/{name}/resize")
async def resize(backend: Backend, request: Request, name: str) -> Response:
    rows, columns = window_size(request)
    await backend.containers.resize(name, rows=rows, columns=columns)
    return Response(200)


def window_size(request: Request) -> tuple[int, int]:
    """Return the `h` and `w` of a request; raises InvalidArgument in Docker's words."""
    sizes = []
    for name, what in (("h", "height"), ("w", "width")):
        text = request.query.get(name)
        digits = text.removeprefix("-")
        if not digits.isascii() or not digits.isdigit():
            raise InvalidArgument(f'invalid resize {what} "{text}": invalid syntax')
        if text.startswith("-") or len(digits) > 10 or int(digits) >= UINT32_LIMIT:
            raise InvalidArgument(f'invalid resize {what} "{text}": value out of range')
        sizes.append(int(digits))
    return sizes[0], sizes[1]


@routes.on("DELETE", "/containers/{name:.*}")
async def remove(backend: Backend, request: Request, name: str) -> Response:
    await backend.containers.remove(
        name,
        force=request.query.boolean("force"),
        volumes=request.query.boolean("v"),
        link=request.query.boolean("link"),
    )
    return Response(204)


@routes.on("POST", "/containers/prune")
async def prune(backend: Backend, request: Request) -> Response:
    return json_response(200, await backend.containers.prune(parse_filters(request)))


@routes.on("POST", "/commit")
async def commit(backend: Backend, request: Request) -> Response:
    config = await read_json(request, Config)
    query = request.query
    id_ = await backend.containers.commit(
        query.get("container"),
        repo=query.get("repo"),
        tag=query.get("tag"),
        comment=query.get("comment"),
        author=query.get("author"),
        pause=query.boolean("pause", True),
        changes=query.all("changes"),
        config=config,
    )
    return json_response(201, CommitResponse(id=id_))
