"""A blob of a cache that is read from far away: it counts as used for as long as somebody reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from sampan.registry.content.blobs import TOUCH_SECONDS
from sampan.registry.content.fullness import UnlessAway
from sampan.registry.drivers.driver import Content
from sampan.registry.errors import RegistryError


class Reading:
    """A Content that says from time to time that it is read.

    An open file outlives its name, so files of this machine need none of this.
    """

    local = ""
    descriptor = -1

    def __init__(self, content: Content, note: Callable[[], object]) -> None:
        """`note` says so; it blocks."""
        self._content = content
        self._note = note
        self._noted = time.monotonic()
        self.size = content.size

    def read(self, offset: int, count: int) -> bytes:
        if time.monotonic() - self._noted > TOUCH_SECONDS:
            self._noted = time.monotonic()
            with UnlessAway("it is not noted that a blob is read"):
                try:
                    self._note()
                except RegistryError:
                    pass  # it was removed; what is under way may still come to its end
        return self._content.read(offset, count)

    def close(self) -> None:
        self._content.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
