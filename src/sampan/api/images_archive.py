"""Images in and out as archives: import, load and save."""

from __future__ import annotations

from typing import TypedDict

from sampan.api.handler import Backend, Handler
from sampan.api.platforms import platform_of
from sampan.api.progress import begun, line, lines
from sampan.api.registries import pull
from sampan.http.request import Request
from sampan.http.response import Response, StreamingResponse
from sampan.http.router import Routes
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.platform import Platform
from sampan.spec.reference import from_repo_and_tag

routes: Routes[Handler] = Routes()


class ImportOptions(TypedDict):
    """What an import takes beside the archive."""

    changes: list[str]
    message: str
    platform: Platform | None


@routes.on("POST", "/images/create")
async def create(backend: Backend, request: Request) -> Response | StreamingResponse:
    """Pull an image, or import an archive."""
    query = request.query
    platform = None
    if request.version >= (1, 32) and query.get("platform"):
        platform = Platform.parse(query.get("platform"))
    if query.get("fromImage"):
        return await pull(backend, request, platform)
    reference = from_repo_and_tag(query.get("repo"), query.get("tag"))
    source = query.get("fromSrc")
    options: ImportOptions = {
        "changes": query.all("changes"),
        "message": query.get("message") or f"Imported from {source}",
        "platform": platform,
    }
    if source != "-":
        request.cancel_when_client_leaves()
        messages = backend.images.import_from(source, reference, **options)
        return StreamingResponse(200, lines(await begun(messages)))
    image_id = await backend.images.import_(request.chunks(), reference, **options)
    return Response(200, line(ProgressMessage(status=image_id)))


@routes.on("POST", "/images/load")
async def load(backend: Backend, request: Request) -> StreamingResponse:
    platform = platform_of(request, "platform") if request.version >= (1, 48) else None
    messages = backend.images.load(
        request.chunks(), quiet=request.query.boolean("quiet", True), platform=platform
    )
    return StreamingResponse(200, await begun(lines(messages)))


async def _save(backend: Backend, request: Request, names: list[str]) -> StreamingResponse:
    platform = platform_of(request, "platform") if request.version >= (1, 48) else None
    request.cancel_when_client_leaves()
    archive = await begun(backend.images.save(names, platform))
    return StreamingResponse(200, archive, content_type="application/x-tar")


@routes.on("GET", "/images/get")
async def save_several(backend: Backend, request: Request) -> StreamingResponse:
    return await _save(backend, request, request.query.all("names"))


@routes.on("GET", "/images/{name:.*}/get")
async def save(backend: Backend, request: Request, name: str) -> StreamingResponse:
    return await _save(backend, request, [name])
