"""Interfaces plugged into running containers; not Docker's."""

from __future__ import annotations

from sampan.api.codec import json_response, read_json
from sampan.api.handler import Backend, Handler
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.router import Routes
from sampan.spec.docker.plugs import PlugRequest

routes: Routes[Handler] = Routes()


@routes.on("POST", "/containers/{name}/plugs")
async def plug(backend: Backend, request: Request, name: str) -> Response:
    body = await read_json(request, PlugRequest)
    return json_response(201, await backend.plugging.plug(name, body))


@routes.on("GET", "/containers/{name}/plugs")
async def list_plugs(backend: Backend, request: Request, name: str) -> Response:
    return json_response(200, await backend.plugging.of(name))


@routes.on("DELETE", "/containers/{name}/plugs/{interface}")
async def unplug(backend: Backend, request: Request, name: str, interface: str) -> Response:
    await backend.plugging.unplug(name, interface)
    return Response(204)
