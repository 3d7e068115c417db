"""Files of containers: the archive endpoints behind `docker cp`, and export."""

from __future__ import annotations

import base64

import msgspec

from sampan.api.handler import Backend, Handler
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.http.response import Response, StreamingResponse
from sampan.http.router import Routes
from sampan.storage.mounter import ExtractOptions, PathStat

routes: Routes[Handler] = Routes()
STAT = "X-Docker-Container-Path-Stat"


def _path(request: Request) -> str:
    path = request.query.get("path")
    if not path:
        raise InvalidArgument("bad parameter: path cannot be empty")
    return path


def _stat_header(stat: PathStat) -> tuple[str, str]:
    return STAT, base64.b64encode(msgspec.json.encode(stat)).decode()


@routes.on("HEAD", "/containers/{name}/archive")
async def stat_path(backend: Backend, request: Request, name: str) -> Response:
    stat = await backend.containers.stat_path(name, _path(request))
    return Response(200, headers=[_stat_header(stat)])


@routes.on("GET", "/containers/{name}/archive")
async def get_archive(backend: Backend, request: Request, name: str) -> StreamingResponse:
    stat, content = await backend.containers.get_archive(name, _path(request))
    request.cancel_when_client_leaves()
    return StreamingResponse(200, content, [_stat_header(stat)], "application/x-tar")


@routes.on("PUT", "/containers/{name}/archive")
async def put_archive(backend: Backend, request: Request, name: str) -> Response:
    options = ExtractOptions(
        no_overwrite_dir_non_dir=request.query.boolean("noOverwriteDirNonDir"),
        copy_uid_gid=request.query.boolean("copyUIDGID"),
    )
    await backend.containers.put_archive(name, _path(request), request.chunks(), options)
    return Response(200)


@routes.on("GET", "/containers/{name}/export")
async def export(backend: Backend, request: Request, name: str) -> StreamingResponse:
    content = await backend.containers.export(name)
    request.cancel_when_client_leaves()
    return StreamingResponse(200, content, content_type="application/octet-stream")
