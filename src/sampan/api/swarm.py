"""What Docker's clients ask of a swarm: this engine is in none, and says so in Docker's words.

Clients tell an engine outside of a swarm by the status 503: docker-py's `leave_swarm(force=True)`
and compose take it for an answer, and 404 for an error. Source: moby daemon/cluster/errors.go.
"""

from __future__ import annotations

from sampan.api.errors import refusal
from sampan.api.handler import Backend, Handler
from sampan.errors import Conflict, Unsupported
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.router import Routes

routes: Routes[Handler] = Routes()
NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)


@routes.on("POST", "/swarm/leave")
async def leave(backend: Backend, request: Request) -> Response:
    return refusal(503, "This node is not part of a swarm")


@routes.on("POST", "/swarm/unlock")
async def unlock(backend: Backend, request: Request) -> Response:
    raise Conflict("swarm is not locked")


@routes.on("POST", "/swarm/init")
@routes.on("POST", "/swarm/join")
async def begin(backend: Backend, request: Request) -> Response:
    raise Unsupported("this engine cannot be part of a swarm")


@routes.on("GET", "/swarm")
@routes.on("GET", "/swarm/unlockkey")
@routes.on("POST", "/swarm/update")
async def of_a_manager(backend: Backend, request: Request) -> Response:
    return refusal(503, NO_MANAGER)


async def object_of_a_manager(backend: Backend, request: Request, **names: str) -> Response:
    """Refuse what only managers have: nodes, services, tasks, secrets and configurations."""
    return refusal(503, NO_MANAGER)


for _kind, _paths in {
    "nodes": ["GET", "GET /{id}", "DELETE /{id}", "POST /{id}/update"],
    "services": [
        *("GET", "POST /create", "GET /{id}", "DELETE /{id}", "POST /{id}/update"),
        "GET /{id}/logs",
    ],
    "tasks": ["GET", "GET /{id}", "GET /{id}/logs"],
    "secrets": ["GET", "POST /create", "GET /{id}", "DELETE /{id}", "POST /{id}/update"],
    "configs": ["GET", "POST /create", "GET /{id}", "DELETE /{id}", "POST /{id}/update"],
}.items():
    for _path in _paths:
        _method, _, _rest = _path.partition(" ")
        routes.on(_method, f"/{_kind}{_rest}")(object_of_a_manager)
