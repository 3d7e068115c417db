"""Bodies of requests that are read whole: manifests and forms."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

SECONDS = 300.0  # for a whole body; the largest are some MiB


async def read_body(request: Request, limit: int) -> bytes | None:
    """Return the body of a request; None if it has more bytes than `limit`.

    A client that takes too long counts as one that has gone: ClientDisconnect.
    """
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said) > limit:
        return None
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SECONDS):
            async for piece in request.stream():
                parts.append(piece)
                size += len(piece)
                if size > limit:
                    return None
    except TimeoutError:
        raise ClientDisconnect from None
    return b"".join(parts)
