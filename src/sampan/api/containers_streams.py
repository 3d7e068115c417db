"""What goes on as long as the client listens: logs, stats, wait, attach."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sampan.api.codec import json_line, json_response
from sampan.api.detach import Escape, parse_keys
from sampan.api.handler import Backend, Handler
from sampan.api.hijack import head_was_read, pump, stream_type, take_over
from sampan.api.timestamps import parse_moment
from sampan.engine.containers.queries import Attachment, AttachQuery, LogsQuery
from sampan.engine.containers.waiting import Waiter
from sampan.errors import InvalidArgument
from sampan.http.request import Request
from sampan.http.response import Response, StreamingResponse
from sampan.http.router import Routes
from sampan.http.stream import Stream
from sampan.spec.docker.stats import StatsResponse

routes: Routes[Handler] = Routes()
WAIT_CONDITIONS = ("not-running", "next-exit", "removed")


# --- logs and stats ----------------------------------------------------------------------------


def _tail(text: str) -> int | None:
    """Return the number of lines; what is no number means all of them, as in Docker."""
    number = int(text) if text.isascii() and text.lstrip("+-").isdigit() and len(text) < 19 else -1
    return number if number >= 0 else None


@routes.on("GET", "/containers/{name}/logs")
async def logs(backend: Backend, request: Request, name: str) -> StreamingResponse:
    query = request.query
    stdout, stderr = query.boolean("stdout"), query.boolean("stderr")
    if not stdout and not stderr:
        raise InvalidArgument("must specify at least one of 'stdout' or 'stderr'")
    wanted = LogsQuery(
        stdout=stdout,
        stderr=stderr,
        follow=query.boolean("follow"),
        since=parse_moment(query.get("since"), "since") or 0,
        until=parse_moment(query.get("until"), "until") or 0,
        timestamps=query.boolean("timestamps"),
        details=query.boolean("details"),
        tail=_tail(query.get("tail")),
    )
    request.cancel_when_client_leaves()
    terminal, content = backend.containers.logs(name, wanted)
    return StreamingResponse(200, content, content_type=stream_type(request, terminal))


@routes.on("GET", "/containers/{name}/stats")
async def stats(backend: Backend, request: Request, name: str) -> StreamingResponse | Response:
    stream = request.query.boolean("stream", True)
    one_shot = request.version >= (1, 41) and request.query.boolean("one-shot")
    request.cancel_when_client_leaves()
    samples = backend.containers.stats(name, stream=stream, one_shot=one_shot)
    if not stream:
        return json_response(200, await anext(samples))
    return StreamingResponse(200, _lines(samples))


async def _lines(samples: AsyncIterator[StatsResponse]) -> AsyncIterator[bytes]:
    async for sample in samples:
        yield json_line(sample)


# --- wait --------------------------------------------------------------------------------------


@routes.on("POST", "/containers/{name}/wait")
async def wait(backend: Backend, request: Request, name: str) -> StreamingResponse | Response:
    """Answer the head as soon as the wait is registered, and the body at the end."""
    condition = request.query.get("condition") if request.version >= (1, 30) else ""
    if condition and condition not in WAIT_CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    request.cancel_when_client_leaves()
    waiter = backend.containers.waiter(name, condition)
    if request.version < (1, 30):
        return json_response(200, await waiter.wait())
    return StreamingResponse(200, _result(waiter))


async def _result(waiter: Waiter) -> AsyncIterator[bytes]:
    yield json_line(await waiter.wait())


# --- attach ------------------------------------------------------------------------------------


def attach_query(request: Request, every_stream: bool = False) -> AttachQuery:
    """Return what the query of an attach asks for."""
    query = request.query
    return AttachQuery(
        stdin=every_stream or query.boolean("stdin"),
        stdout=every_stream or query.boolean("stdout"),
        stderr=every_stream or query.boolean("stderr"),
        stream=query.boolean("stream"),
        logs=query.boolean("logs"),
    )


@routes.on("POST", "/containers/{name}/attach")
async def attach(backend: Backend, request: Request, name: str) -> None:
    keys = parse_keys(request.query.get("detachKeys"))
    wanted = attach_query(request)
    attachment = await backend.containers.attach(name, wanted)
    try:
        stream = await take_over(request, attachment.terminal)
        if await connect(stream, attachment, keys, stdin=wanted.stdin):
            backend.containers.detached(name)
    finally:
        if attachment.socket is not None:
            attachment.socket.close()


async def connect(stream: Stream, attachment: Attachment, keys: bytes, *, stdin: bool) -> bool:
    """Send the backlog, then carry bytes both ways; return whether the user detached."""
    if attachment.backlog:
        await head_was_read(stream)
        await stream.send(attachment.backlog)
    if attachment.socket is None:
        return False
    escape = Escape(keys) if attachment.terminal and stdin else None
    return await pump(stream, attachment.socket, escape=escape, eof_detaches=False)
