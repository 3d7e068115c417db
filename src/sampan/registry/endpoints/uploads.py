"""/v2/NAME/blobs/uploads/: begin, mount, send in one or many pieces, ask, finish, cancel."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from sampan.http.asgi import POUR
from sampan.http.bodies import CutOff
from sampan.registry import names
from sampan.registry.auth.access import Scope
from sampan.registry.content.receivers import Receiver
from sampan.registry.endpoints.blobs import OCTETS
from sampan.registry.endpoints.call import Call, empty
from sampan.registry.errors import RegistryError
from sampan.registry.events import Event
from sampan.spec.digest import Digest

# Who gives a push up closes one connection and cancels by another: the first may be seen later.
CANCEL_SECONDS = 2.0
PIECE = 256 << 10  # that is written at once; each upload holds two at most
_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/(?:\d+|\*))?", re.ASCII)


async def start(call: Call) -> Response:
    """Begin an upload; or mount a blob; or take a whole blob at once."""
    query = call.request.query_params
    digest = mountable(call.query("mount"), call.query("from"))
    if digest:
        source = call.query("from")
        if await call.run(_mount, call, digest, source):
            if call.emit:
                blob = await call.run(call.registry.blobs.find, call.repository, digest)
                event = Event("mount", call.repository, digest, OCTETS, blob.size, source=source)
                await call.tell(event)
            return _created(call, digest)
    algorithm = call.query("digest-algorithm") or "sha256"
    wanted = names.digest(call.query("digest")) if "digest" in query else None
    if wanted:
        algorithm = wanted.partition(":")[0]
    if algorithm not in names.ALGORITHMS:
        raise RegistryError("DIGEST_INVALID", message="unsupported digest algorithm")
    upload = await call.run(call.registry.uploads.start, call.repository, algorithm, wanted)
    if wanted and "mount" not in query:
        return await _finish(call, upload, wanted, None)
    return _accepted(call, upload, 0)


def mountable(digest: str, source: str) -> Digest | None:
    """Return what a query asks to mount; None for what can be mounted from nowhere.

    Then it is an upload, as with a blob that is not there: the client has it.
    """
    try:
        return names.digest(digest) if not source or names.is_repository(source) else None
    except RegistryError:
        return None


def _mount(call: Call, digest: Digest, source: str) -> bool:
    def may_read(name: str) -> bool:
        return call.grant.allows(Scope("repository", name, ("pull",)))

    registry = call.registry
    return registry.uploads.making_room(
        call.repository, lambda: registry.blobs.mount(call.repository, digest, source, may_read)
    )


def _created(call: Call, digest: Digest) -> Response:
    location = call.url(call.blob_path(digest))
    return empty(201, {"Location": location, "Docker-Content-Digest": digest})


def _upload_headers(call: Call, upload: str, offset: int) -> dict[str, str]:
    return {
        "Location": call.url(f"v2/{call.repository}/blobs/uploads/{upload}"),
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": upload,
    }


def _accepted(call: Call, upload: str, offset: int) -> Response:
    return empty(202, _upload_headers(call, upload, offset))


def _id(call: Call) -> str:
    return names.upload(call.groups["upload"])


async def status(call: Call) -> Response:
    """Tell how much has been received."""
    upload = _id(call)
    offset = await call.run(call.registry.uploads.offset, call.repository, upload)
    return empty(204, _upload_headers(call, upload, offset))


async def append(call: Call) -> Response:
    """Take a piece."""
    upload = _id(call)
    async with _ended_if_denied(call, upload):
        receiver = await _open(call, upload, _content_range(call))
        try:
            await _receive(call, receiver)
        finally:
            await call.run(receiver.close)
    return _accepted(call, upload, receiver.offset)


async def finish(call: Call) -> Response:
    """Take the last piece, if there is one, and verify the blob."""
    return await _finish(call, _id(call), names.digest(call.query("digest")), _content_range(call))


async def _finish(call: Call, upload: str, digest: Digest, start: int | None) -> Response:
    async with _ended_if_denied(call, upload):
        receiver = await _open(call, upload, start, digest)
        try:
            await _receive(call, receiver)
            await call.run(call.registry.uploads.finish, call.repository, upload, digest, receiver)
        finally:
            if not receiver.over:
                await call.run(receiver.close)
    await call.tell(Event("push", call.repository, digest, OCTETS, receiver.offset))
    return _created(call, digest)


async def cancel(call: Call) -> Response:
    """Throw an upload away."""
    upload = _id(call)
    await call.run(call.registry.uploads.cancel, call.repository, upload, CANCEL_SECONDS)
    return empty(204, {"Docker-Upload-UUID": upload})


@contextlib.asynccontextmanager
async def _ended_if_denied(call: Call, upload: str) -> AsyncIterator[None]:
    """End an upload for which there is no room: what was received helps nobody."""
    try:
        yield
    except RegistryError as error:
        if error.items[0].code == "DENIED":
            await call.run(call.registry.uploads.cancel, call.repository, upload)
        raise


async def _open(
    call: Call, upload: str, start: int | None, digest: Digest | None = None
) -> Receiver:
    said = call.request.headers.get("content-length", "")
    more = int(said) if said.isascii() and said.isdigit() else 0
    receive = call.registry.uploads.receive
    try:
        return await call.run(receive, call.repository, upload, start, more, digest)
    except RegistryError as error:
        if error.items[0].code == "RANGE_INVALID":
            offset = error.items[0].detail["offset"]
            error.headers.update(_upload_headers(call, upload, offset))
        raise


def _content_range(call: Call) -> int | None:
    """Return where a piece says that it belongs; None if it does not say.

    Raises RANGE_INVALID for what is no range, SIZE_INVALID for a range of another length.
    """
    text = call.request.headers.get("content-range")
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or int(match[2]) < int(match[1]):
        raise RegistryError("RANGE_INVALID", {"range": text[:128]})
    length = call.request.headers.get("content-length")
    if length is not None and int(length) != int(match[2]) - int(match[1]) + 1:
        raise RegistryError("SIZE_INVALID", {"range": text, "length": length})
    return int(match[1])


async def _receive(call: Call, receiver: Receiver) -> None:
    """Write the body as it comes."""
    pour = call.request.scope.get("extensions", {}).get(POUR)
    idle = call.service.idle_seconds
    try:
        if pour:
            await pour(receiver.write, call.threads, idle)
        else:
            await _write_pieces(call, receiver, idle)
    except CutOff:
        raise ClientDisconnect from None
    except TimeoutError:
        raise RegistryError(
            "BLOB_UPLOAD_INVALID", message="the client sent nothing for too long", status=408
        ) from None


async def _write_pieces(call: Call, receiver: Receiver, idle: float) -> None:
    """Write and hash one piece while the next arrives. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[None] | None = None
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(idle) as deadline:
            async for chunk in call.request.stream():
                pieces.append(chunk)
                size += len(chunk)
                if size >= PIECE:
                    if writing:
                        await writing
                    writing = loop.run_in_executor(call.threads, receiver.write, b"".join(pieces))
                    pieces, size = [], 0
                    deadline.reschedule(loop.time() + idle)
    finally:
        # Also what came before a broken connection is kept: the client can go on from there.
        if writing:
            await asyncio.shield(writing)
        if size:
            await asyncio.shield(call.run(receiver.write, b"".join(pieces)))
