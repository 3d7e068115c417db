"""Execs: further processes in running containers."""

from __future__ import annotations

from functools import partial

from sampan.api.codec import json_response, read_json
from sampan.api.containers import window_size
from sampan.api.detach import Escape, parse_keys
from sampan.api.handler import Backend, Handler
from sampan.api.hijack import STDOUT, Unframer, frame, head_was_read, pump, take_over
from sampan.engine.containers.queries import Attachment
from sampan.errors import InvalidArgument, SampanError
from sampan.http.request import Request
from sampan.http.response import Response
from sampan.http.router import Routes
from sampan.http.stream import Stream
from sampan.spec.docker.exec import ExecCreateRequest, ExecStartRequest

routes: Routes[Handler] = Routes()


@routes.on("POST", "/containers/{name}/exec")
async def create(backend: Backend, request: Request, name: str) -> Response:
    body = await read_json(request, ExecCreateRequest)
    if not body.cmd:
        raise InvalidArgument("No exec command specified")
    if request.version < (1, 42):
        body.console_size = None
    return json_response(201, await backend.execs.create(name, body))


@routes.on("POST", "/exec/{name}/start")
async def start(backend: Backend, request: Request, name: str) -> Response | None:
    """Start an exec; unless it is detached, the connection becomes its streams.

    A program that cannot be started is told inside the streams, as Docker's clients expect it:
    they learn 126 or 127 from inspect. The framing follows `Tty` of this request, not that of
    the exec: docker-py starts execs with a terminal and reads frames.
    """
    body = await read_json(request, ExecStartRequest)
    if request.version < (1, 42) or not body.tty:
        body.console_size = None
    if body.detach:
        await backend.execs.start(name, body)
        return Response(200)
    keys = parse_keys(backend.execs.inspect(name).detach_keys)
    attachment = await backend.execs.connect(name, body)
    try:
        stream = await take_over(request, body.tty)
        try:
            await backend.execs.start(name, body)
        except SampanError as error:
            sentence = f"{error}\r\n".encode()
            await head_was_read(stream)
            await stream.send(sentence if body.tty else frame(STDOUT, sentence))
            return None
        if await _carry(stream, attachment, keys, plain=body.tty):
            backend.execs.detached(name)
        else:
            # The client sees the end of the streams and asks for the exit code at once.
            await backend.execs.settled(name)
    finally:
        if attachment.socket is not None:
            attachment.socket.close()
    return None


async def _carry(stream: Stream, attachment: Attachment, keys: bytes, *, plain: bool) -> bool:
    """Carry bytes both ways, in frames unless `plain`; return whether the user detached."""
    if attachment.socket is None:
        return False
    convert = None
    if attachment.terminal != plain:
        convert = Unframer().feed if plain else partial(frame, STDOUT)
    escape = Escape(keys) if attachment.terminal else None
    return await pump(stream, attachment.socket, escape=escape, eof_detaches=False, convert=convert)


@routes.on("POST", "/exec/{name}/resize")
async def resize(backend: Backend, request: Request, name: str) -> Response:
    rows, columns = window_size(request)
    await backend.execs.resize(name, rows=rows, columns=columns)
    return Response(200)


@routes.on("GET", "/exec/{name}/json")
async def inspect(backend: Backend, request: Request, name: str) -> Response:
    return json_response(200, backend.execs.inspect(name))
