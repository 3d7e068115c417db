"""Reading parts of files, and which archives of layers are worth keeping."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

from sampan.spec.image import MEDIA_LAYER_GZIP, MEDIA_LAYER_ZSTD
from sampan.storage.archives.compression import CHUNK, Read

KEPT: Final = {"gzip": MEDIA_LAYER_GZIP, "zstd": MEDIA_LAYER_ZSTD}
"""The media types of compressions that registries know."""


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


def chunks_of(read: Read) -> Iterator[bytes]:
    """Yield everything that a function gives."""
    while data := read(CHUNK):
        yield data
