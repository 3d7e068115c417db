"""Networks."""

from __future__ import annotations

from sampan.api.codec import json_response, read_json
from sampan.api.filters import parse_filters
from sampan.api.handler import Backend, Handler
from sampan.api.versions import shaped
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.router import Routes
from sampan.spec.booleans import parse_bool
from sampan.spec.docker.networks import (
    NetworkConnectRequest,
    NetworkCreateRequest,
    NetworkDisconnectRequest,
)

routes: Routes[Handler] = Routes()


@routes.on("GET", "/networks")
@routes.on("GET", "/networks/")
async def list_networks(backend: Backend, request: Request) -> Response:
    networks = await backend.networks.list(parse_filters(request))
    return json_response(200, shaped("Network", networks, request.version))


@routes.on("GET", "/networks/{id:.*}")
async def inspect(backend: Backend, request: Request, id: str) -> Response:
    verbose = request.query.get("verbose")
    if verbose:
        try:
            parse_bool(verbose)
        except ValueError as error:
            raise InvalidArgument(f"invalid value for verbose: {verbose}: {error}") from error
    network = await backend.networks.inspect(id, scope=request.query.get("scope"))
    return json_response(200, shaped("Network", network, request.version))


@routes.on("POST", "/networks/create")
async def create(backend: Backend, request: Request) -> Response:
    body = await read_json(request, NetworkCreateRequest)
    if request.version < (1, 48):
        body.enable_ipv4 = None
    return json_response(201, await backend.networks.create(body))


@routes.on("POST", "/networks/prune")
async def prune(backend: Backend, request: Request) -> Response:
    return json_response(200, await backend.networks.prune(parse_filters(request)))


@routes.on("POST", "/networks/{id}/connect")
async def connect(backend: Backend, request: Request, id: str) -> Response:
    body = await read_json(request, NetworkConnectRequest)
    await backend.engine.connect_network(id, body)
    return Response(200)


@routes.on("POST", "/networks/{id}/disconnect")
async def disconnect(backend: Backend, request: Request, id: str) -> Response:
    body = await read_json(request, NetworkDisconnectRequest)
    await backend.engine.disconnect_network(id, body)
    return Response(200)


@routes.on("DELETE", "/networks/{id:.*}")
async def remove(backend: Backend, request: Request, id: str) -> Response:
    await backend.networks.remove(id)
    return Response(204)
