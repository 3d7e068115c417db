"""Taking a layer archive into the content store: digests, sizes, one compression for all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass

from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_LAYER_GZIP, MEDIA_LAYER_ZSTD
from sampan.storage.compression import CHUNK, Read, gzip_writer, kind_of, plain_chunks
from sampan.storage.content import ContentStore, Writer

_KEPT = {"gzip": MEDIA_LAYER_GZIP, "zstd": MEDIA_LAYER_ZSTD}


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A layer in the content store."""

    diff_id: str  # digest of the uncompressed tar
    plain_size: int  # bytes of the uncompressed tar
    blob: Digest
    blob_size: int
    media_type: str


def region(fd: int, offset: int, size: int, advance: Callable[[int], object] | None = None) -> Read:
    """Return a function that reads a part of a file, and tells `advance` how many bytes it read."""
    at, end = offset, offset + size

    def read(wanted: int) -> bytes:
        nonlocal at
        data = os.pread(fd, min(wanted, end - at), at)
        at += len(data)
        if advance:
            advance(len(data))
        return data

    return read


def whole(fd: int) -> Read:
    """Return a function that reads a file from its beginning."""
    return region(fd, 0, os.fstat(fd).st_size)


def take_in(store: ContentStore, read: Read) -> LayerBlob:
    """Store the layer that `read` yields: gzip and zstd as they are, all else as gzip."""
    start = read(CHUNK)
    media_type = _KEPT.get(kind_of(start))
    digest, plain_size = hashlib.sha256(), 0
    with store.writer() as writer:
        if media_type:
            for chunk in plain_chunks(_teed(start, read, writer)):
                digest.update(chunk)
                plain_size += len(chunk)
        else:
            media_type = MEDIA_LAYER_GZIP
            packed = gzip_writer(writer)
            for chunk in plain_chunks(_teed(start, read, None)):
                digest.update(chunk)
                plain_size += len(chunk)
                packed.write(chunk)
            packed.close()
        blob = writer.commit()
        return LayerBlob(f"sha256:{digest.hexdigest()}", plain_size, blob, writer.size, media_type)


def plain_layer(store: ContentStore, blob: Digest) -> Generator[bytes, None, None]:
    """Yield the uncompressed content of a stored layer."""
    fd = store.open(blob)
    try:
        yield from plain_chunks(whole(fd))
    finally:
        os.close(fd)


def _teed(start: bytes, read: Read, writer: Writer | None) -> Read:
    first = [start]

    def tee(size: int) -> bytes:
        data = first.pop() if first else read(size)
        if writer and data:
            writer.write(data)
        return data

    return tee
