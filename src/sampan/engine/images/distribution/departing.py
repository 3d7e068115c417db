"""Where the bytes of a blob that goes to a registry come from: read in the thread that sends them.

Nothing of it touches a disk: a layer is packed by the storage helper, or fetched from another
registry, while it is sent.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import zstandard
from isal import isal_zlib

from sampan.distribution.repository import Repository
from sampan.distribution.uploads import Read
from sampan.engine.blocking import in_own_thread
from sampan.engine.images.feeding import wide_pipe
from sampan.engine.undisturbed import ended
from sampan.errors import InvalidArgument
from sampan.rpc import Fd
from sampan.spec.digest import Digest
from sampan.spec.exports import GZIP, Compression
from sampan.spec.image import Descriptor
from sampan.storage.content import ContentStore
from sampan.storage.mounter import Mounter

_BLOCK: Final = 128 << 10  # what the compressor writes depends on how it is fed: always like this
_LEVEL: Final = 2  # of igzip's four: ten times as fast as zlib's 6, and a seventh larger
_ZSTD: Final = 3  # of zstd's 22: its own default
_GZIP: Final = 31  # window bits: the largest window, with gzip's header (no name, no time)


class _Pipe:
    """The end of a pipe that somebody else fills, and what went wrong with him."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.error: BaseException | None = None  # set before the other end is closed
        self.left = False  # nobody wants the rest

    def read(self, size: int) -> bytes:
        """Return some bytes, b"" at the end; raises what the writer failed with."""
        if self.left:
            raise BrokenPipeError("the transfer has ended")
        data = os.read(self._fd, size)
        if not data and self.error is not None:
            raise self.error
        return data

    def fill(self, view: memoryview) -> int:
        """Fill `view`; return how much of it, which is less only at the end."""
        count = 0
        while count < len(view):
            if self.left:
                raise BrokenPipeError("the transfer has ended")
            if not (more := os.readv(self._fd, [view[count:]])):
                if self.error is not None:
                    raise self.error
                break
            count += more
        return count


class _Plain:
    """A compressor that compresses nothing."""

    def compress(self, data: memoryview) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


def compressor(compression: Compression) -> Any:
    """Return what compresses: `compress` and `flush`. Raises InvalidArgument for a bad level."""
    level = compression.level
    if compression.kind == "uncompressed":
        return _Plain()
    try:
        if compression.kind == "zstd":
            return zstandard.ZstdCompressor(level=_ZSTD if level is None else level).compressobj()
        if level is None:
            return isal_zlib.compressobj(_LEVEL, wbits=_GZIP)
        return zlib.compressobj(level, wbits=_GZIP)
    except ValueError as error:
        raise InvalidArgument(f"invalid compression level: {level}") from error


class _Compressed:
    """A pipe's content in another form: the same bytes whenever the content is the same."""

    def __init__(self, pipe: _Pipe, advance: Callable[[int], None], form: Compression) -> None:
        self._pipe, self._advance = pipe, advance
        self._compressor: Any = compressor(form)
        self._block = memoryview(bytearray(_BLOCK))
        self._ready, self._ended = b"", False

    def read(self, size: int) -> bytes:
        while not self._ready and not self._ended:
            count = self._pipe.fill(self._block)
            self._advance(count)
            self._ready = self._compressor.compress(self._block[:count])
            if count < _BLOCK:
                self._ready += self._compressor.flush()
                self._ended = True
        if len(self._ready) <= size:
            given, self._ready = self._ready, b""
        else:
            given, self._ready = self._ready[:size], self._ready[size:]
        return given


@asynccontextmanager
async def _filled(fill: Callable[[int, _Pipe], asyncio.Future[None]]) -> AsyncIterator[_Pipe]:
    """Give a pipe that `fill` fills, which closes the writing end."""
    reading, writing = wide_pipe()
    pipe = _Pipe(reading)
    filling = fill(writing, pipe)
    try:
        yield pipe
    finally:
        pipe.left = True
        os.close(reading)  # then the writer stops: nobody reads
        await ended(filling)


@asynccontextmanager
async def packed(
    mounter: Mounter, chain: Digest, advance: Callable[[int], None], form: Compression = GZIP
) -> AsyncIterator[Read]:
    """Give a layer as an archive; `advance` is told of its uncompressed bytes."""

    def fill(writing: int, pipe: _Pipe) -> asyncio.Future[None]:
        def run() -> None:
            try:
                mounter.pack_layer(chain, Fd(writing))
            except BaseException as error:
                pipe.error = error
                raise
            finally:
                os.close(writing)

        return asyncio.ensure_future(in_own_thread(run))

    async with _filled(fill) as pipe:
        yield _Compressed(pipe, advance, form).read


@asynccontextmanager
async def passed_on(source: Repository, blob: Descriptor) -> AsyncIterator[Read]:
    """Give a blob of another repository, as it comes."""

    async def fetch(writing: int, pipe: _Pipe) -> None:
        try:
            await source.fetch_blob(blob, writing, lambda _: None)
        except BaseException as error:
            pipe.error = error
            raise

    def fill(writing: int, pipe: _Pipe) -> asyncio.Future[None]:
        fetching = asyncio.ensure_future(fetch(writing, pipe))
        fetching.add_done_callback(lambda _: os.close(writing))
        fetches.append(fetching)
        return fetching

    fetches: list[asyncio.Future[None]] = []
    async with _filled(fill) as pipe:
        try:
            yield pipe.read
        finally:
            for fetching in fetches:  # it may wait for a registry that is silent
                fetching.cancel()


@asynccontextmanager
async def stored(content: ContentStore, digest: Digest) -> AsyncIterator[Read]:
    """Give a blob of our own content store."""
    with open(content.open(digest), "rb", buffering=0) as file:  # noqa: ASYNC230 - a file of ours
        yield file.read
