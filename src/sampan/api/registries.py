"""What needs a registry: pull, push, login, search, and a look at what lies there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sampan.api.codec import json_response, read_json
from sampan.api.filters import parse_filters
from sampan.api.handler import Backend, Handler
from sampan.api.platforms import platform_of
from sampan.api.progress import begun, lines
from sampan.api.registry_auth import credentials, credentials_of
from sampan.engine.registries import MANIFEST_LIMIT
from sampan.errors import Forbidden, InvalidArgument, Unauthorized, Upstream
from sampan.http.request import Request
from sampan.http.response import Response, StreamingResponse
from sampan.http.router import Routes
from sampan.spec.digest import parse_digest
from sampan.spec.docker.registries import AuthConfig, AuthResponse
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

routes: Routes[Handler] = Routes()


async def pull(backend: Backend, request: Request, platform: Platform | None) -> StreamingResponse:
    """Answer POST /images/create with a name to fetch."""
    reference = _reference(request.query.get("fromImage"), request.query.get("tag"))
    if reference.familiar_name == "scratch":
        raise Forbidden("'scratch' is a reserved name")
    request.cancel_when_client_leaves()
    messages = backend.images.pull(reference, platform=platform, credentials=credentials(request))
    with _no_challenge():
        return StreamingResponse(200, lines(await begun(messages)))


@contextmanager
def _no_challenge() -> Iterator[None]:
    """Let a registry's 401 be a failure like others, as in Docker.

    At a 401 of the engine, the docker CLI asks for a password, even where there is no terminal.
    """
    try:
        yield
    except Unauthorized as error:
        raise Upstream(str(error)) from error


def _reference(name: str, tag: str) -> Reference:
    """Return what is to be pulled; `pull -a` may send a name with a colon at its end."""
    reference = Reference.parse(name.removesuffix(":"))
    if not tag:
        return reference
    try:
        digest = parse_digest(tag)
    except InvalidArgument:
        return reference.with_tag(tag)
    return reference.trimmed().with_digest(digest)


@routes.on("POST", "/images/{name:.*}/push")
async def push(backend: Backend, request: Request, name: str) -> StreamingResponse:
    reference, tag = Reference.parse(name), request.query.get("tag")
    if tag:
        if reference.digest is not None:
            raise InvalidArgument("cannot import digest reference")
        reference = reference.with_tag(tag)
    platform = platform_of(request, "platform") if request.version >= (1, 46) else None
    request.cancel_when_client_leaves()
    messages = backend.images.push(reference, platform=platform, credentials=credentials(request))
    return StreamingResponse(200, lines(await begun(messages)))


@routes.on("GET", "/images/search")
async def search(backend: Backend, request: Request) -> Response:
    limit = request.query.integer("limit")
    if limit is not None and limit < 0:
        raise InvalidArgument("invalid limit specified")
    with _no_challenge():
        found = await backend.registries.search(
            request.query.get("term"), limit or 0, parse_filters(request), credentials(request)
        )
    return json_response(200, found)


@routes.on("POST", "/auth")
async def authenticate(backend: Backend, request: Request) -> Response:
    config = await read_json(request, AuthConfig, strict_type=False)
    login = await backend.registries.login(config.serveraddress, credentials_of(config))
    return json_response(
        200, AuthResponse(identity_token=login.identity_token, status=login.status)
    )


@routes.on("GET", "/distribution/{name:.*}/json")
async def inspect(backend: Backend, request: Request, name: str) -> Response:
    return json_response(200, await backend.registries.inspect(name, credentials(request)))


# --- ours: what `manifest` of our command line needs -------------------------------------------


@routes.on("GET", "/distribution/{name:.*}/manifests")
async def manifest(backend: Backend, request: Request, name: str) -> Response:
    """Give a manifest or index as it is."""
    found = await backend.registries.manifest(name, credentials(request))
    return Response(
        200,
        found.content,
        [("Docker-Content-Digest", found.descriptor.digest)],
        found.descriptor.media_type,
    )


@routes.on("PUT", "/distribution/{name:.*}/manifests")
async def put_manifest(backend: Backend, request: Request, name: str) -> Response:
    """Store a manifest or index, under the tag of the query or its digest alone."""
    digest = await backend.registries.put_manifest(
        name,
        request.headers.get("content-type"),
        await request.read(MANIFEST_LIMIT),
        tag=request.query.get("tag"),
        credentials=credentials(request),
    )
    return Response(201, headers=[("Docker-Content-Digest", digest)])


@routes.on("POST", "/distribution/{name:.*}/blobs")
async def mount_blob(backend: Backend, request: Request, name: str) -> Response:
    """Make a blob of another repository of the same registry one of this repository."""
    await backend.registries.mount_blob(
        name, request.query.get("digest"), request.query.get("from"), credentials(request)
    )
    return Response(201)
