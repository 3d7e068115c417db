"""/v2/NAME/blobs/DIGEST: look, read whole or in part, remove."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from sampan.http.asgi import SENDFILE
from sampan.registry.drivers.driver import Content
from sampan.registry.endpoints.call import Call, empty
from sampan.registry.errors import RegistryError
from sampan.registry.events import Event
from sampan.registry.proxy.arriving import Absent, Arriving
from sampan.registry.serving.server import PATHSEND
from sampan.spec.digest import Digest

OCTETS = "application/octet-stream"
PIECE = 128 << 10  # granian holds some six of them for a client that does not read
_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.ASCII)
_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Part:
    """A range of bytes: first and last."""

    first: int
    last: int


def parse_range(text: str, size: int) -> Part | None:
    """Return the part that a Range header asks for; None where the whole is to be sent.

    Raises RANGE_INVALID if there is no such part. Several ranges, and what is no range of bytes,
    count as not asked. Source: RFC 9110, 14.1.2 and 14.2.
    """
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]) or max(map(len, match.groups())) > _DIGITS:
        return None
    if not match[1]:
        count = min(int(match[2]), size)
        part = Part(size - count, size - 1)
    else:
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        part = Part(int(match[1]), last)
        if match[2] and int(match[2]) < part.first:
            return None
    if part.first >= size or part.last < part.first:
        raise RegistryError("RANGE_INVALID", headers={"Content-Range": f"bytes */{size}"})
    return part


async def get(call: Call) -> Response:
    """Send a blob, or the part that is asked for."""
    digest = call.digest_group()
    headers = {
        "Docker-Content-Digest": digest,
        "Etag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
        "Content-Type": OCTETS,
    }
    request = call.request
    if call.condition.has(digest) and not call.cached:
        await call.run(call.registry.blobs.find, call.repository, digest)
        return Response(status_code=304, headers=headers)
    content = await _open(call, digest)
    if isinstance(content, Response):
        return content
    try:
        wanted = request.headers.get("range", "")
        if request.headers.get("if-range", f'"{digest}"') != f'"{digest}"':
            wanted = ""
        part = parse_range(wanted, content.size) if wanted else None
        if request.method == "GET":
            event = Event("pull", call.repository, digest, OCTETS, content.size)
            await call.tell(event)
            if call.cached:
                call.cached.sent("blob", part.last - part.first + 1 if part else content.size)
    except BaseException:
        content.close()
        raise
    return BlobResponse(call, content, part, headers)


async def _open(call: Call, digest: Digest) -> Content | Response:
    """Open a blob; where the storage has an address for it, return an answer that leads there."""
    content: Content | None = None
    to_read = call.request.method == "GET"
    if call.cached:
        content = await call.cached.open(digest, to_read=to_read)
    if isinstance(content, Arriving | Absent):
        return content
    # HEAD is answered here: a storage knows no digests, and some clients follow only GET.
    if to_read and call.service.redirect and (away := await _away(call, digest)):
        if content:
            content.close()
        return away
    if content is None:
        blobs = call.registry.blobs
        found = blobs.open if to_read else blobs.look
        content = await call.run(found, call.repository, digest)
    return content


async def _away(call: Call, digest: Digest) -> Response | None:
    """Return an answer that leads to the storage; None if the storage has no address for it."""
    peer = call.request.client
    client = call.request.headers.get("x-forwarded-for", peer.host if peer else "")
    client = client.partition(",")[0].strip()
    url = await call.run(call.registry.blobs.url, call.repository, digest, client)
    if not url:
        return None
    blob = await call.run(call.registry.blobs.find, call.repository, digest)
    await call.tell(Event("pull", call.repository, digest, OCTETS, blob.size))
    return empty(307, {"Location": url, "Docker-Content-Digest": digest})


async def delete(call: Call) -> Response:
    """Take a blob from the repository."""
    digest = call.digest_group()
    await call.run(call.registry.blobs.remove, call.repository, digest)
    await call.tell(Event("delete", call.repository, digest))
    return empty(202, {})


class BlobResponse(Response):
    """Sends an open blob, by the server itself where it can, and closes it."""

    def __init__(
        self, call: Call, content: Content, part: Part | None, headers: dict[str, str]
    ) -> None:
        self._call = call
        self._content = content
        size = content.size
        self._whole = part is None
        self._part = part or Part(0, size - 1)
        length = self._part.last - self._part.first + 1
        super().__init__(status_code=206 if part else 200)
        del self.headers["content-length"]
        if part:
            headers = {**headers, "Content-Range": f"bytes {part.first}-{part.last}/{size}"}
        self.headers.update({**headers, "Content-Length": str(length)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._content:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            if scope["method"] == "HEAD" or not self._content.size:
                await send({"type": "http.response.body", "body": b""})
            elif message := self._by_server(scope):
                await send(message)
            else:
                await self._pieces(send)

    def _by_server(self, scope: Scope) -> Message | None:
        """Return how the server is told to send the file; None for what is sent from here."""
        content, part = self._content, self._part
        count = part.last - part.first + 1
        known = scope.get("extensions", {})
        if count <= PIECE:
            return None
        if SENDFILE in known and content.descriptor >= 0:
            place = {"file": content.descriptor, "offset": part.first, "count": count}
            return {"type": SENDFILE, **place}
        if PATHSEND in known and content.local and self._whole:
            return {"type": PATHSEND, "path": content.local}
        return None

    async def _pieces(self, send: Send) -> None:
        offset, end = self._part.first, self._part.last + 1
        while offset < end:
            count = min(PIECE, end - offset)
            if isinstance(self._content, Arriving):
                await self._content.ready(offset, count)
            piece = await self._call.run(self._content.read, offset, count)
            if not piece:  # the head is sent: only a broken connection can still say it
                raise OSError(f"blob ends after {offset} of {self._content.size} bytes")
            offset += len(piece)
            message = {"type": "http.response.body", "body": piece, "more_body": offset < end}
            await send(message)
