"""Archives on disk: files without a name, for what has to be read out of order."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sampan.engine.blocking import blocking
from sampan.engine.undisturbed import undisturbed
from sampan.storage.compression import kind_of, plain_chunks
from sampan.storage.content import ContentStore, write_all
from sampan.storage.intake import whole

SPOOL_CHUNK: Final = 1 << 20


@asynccontextmanager
async def spooled(content: ContentStore, archive: AsyncIterable[bytes]) -> AsyncIterator[int]:
    """Give a nameless file with everything that `archive` yields."""
    fd = await blocking(content.scratch)
    try:
        collected = bytearray()
        async for chunk in archive:
            collected += chunk
            if len(collected) >= SPOOL_CHUNK:
                await undisturbed(write_all, fd, bytes(collected))
                collected.clear()
        await undisturbed(write_all, fd, bytes(collected))
        yield fd
    finally:
        os.close(fd)


@asynccontextmanager
async def decompressed(content: ContentStore, fd: int) -> AsyncIterator[int]:
    """Give the file itself if it is not compressed, else a nameless file with its content."""
    if not kind_of(os.pread(fd, 8, 0)):
        yield fd
        return
    plain = await blocking(content.scratch)
    try:
        await undisturbed(_decompress, fd, plain)
        yield plain
    finally:
        os.close(plain)


def _decompress(source: int, target: int) -> None:
    for chunk in plain_chunks(whole(source)):
        write_all(target, chunk)
