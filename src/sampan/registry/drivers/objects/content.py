"""Reading what is far away: one stream while it is read in order, begun anew where it breaks."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sampan.registry.drivers.driver import Closing
from sampan.registry.drivers.objects.bucket import Body, Bucket, Entry

log = logging.getLogger(__name__)
TRIES = 3  # at one place, before a stream that breaks is given up


class ObjectContent(Closing):
    """One object, or several that follow each other, as one file."""

    local = ""
    descriptor = -1

    def __init__(self, bucket: Bucket, parts: Sequence[Entry]) -> None:
        self._bucket = bucket
        self._parts = parts
        self._stream: Body | None = None
        self._at = 0  # where the stream stands in the whole
        self.size = sum(part.size for part in parts)

    def read(self, offset: int, count: int) -> bytes:
        if offset >= self.size or count <= 0:
            return b""
        for left in reversed(range(TRIES)):
            try:
                piece = self._take(offset, count)
            except FileNotFoundError:
                raise
            except OSError as error:
                self.close()
                if not left:
                    raise
                log.warning("%s: reading goes on after: %s", self._bucket.name, error)
            else:
                return piece
        raise AssertionError  # the loop has returned or raised

    def _take(self, offset: int, count: int) -> bytes:
        part, within = self._find(offset)
        if self._stream is None or self._at != offset:
            self.close()
            self._stream = self._bucket.get(part.key, within, part.size - within)
            self._at = offset
        left = part.size - within
        piece = self._stream.read(min(count, left))
        if not piece:
            raise OSError(f"{part.key} ends {left} bytes before its length")
        self._at += len(piece)
        if len(piece) == left:
            self.close()
        return piece

    def _find(self, offset: int) -> tuple[Entry, int]:
        """Return the part where an offset is, and the offset within it."""
        for part in self._parts:
            if offset < part.size:
                return part, offset
            offset -= part.size
        raise AssertionError("nobody reads behind the end")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
