"""Blobs that are not here yet, as endpoints have them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, Self


class Coming(Protocol):
    """A blob on its way."""

    size: int

    async def ready(self, end: int) -> None: ...

    def read(self, offset: int, count: int) -> bytes: ...

    def move(self, reader: Hashable, offset: int) -> None: ...

    def leave(self, reader: Hashable) -> None: ...


class Arriving:
    """A blob as one client reads it while it comes: a Content that has to be waited for."""

    local = ""
    descriptor = -1

    def __init__(self, transfer: Coming) -> None:
        self._transfer: Coming | None = transfer
        self.size = transfer.size
        transfer.move(self, 0)

    async def ready(self, offset: int, count: int) -> None:
        """Return when so many bytes can be read; none before them is read any more."""
        assert self._transfer is not None
        self._transfer.move(self, offset)
        await self._transfer.ready(offset + count)

    def read(self, offset: int, count: int) -> bytes:
        assert self._transfer is not None
        return self._transfer.read(offset, count)

    def close(self) -> None:
        if self._transfer is not None:
            self._transfer.leave(self)
            self._transfer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Absent:
    """A blob that is not here and whose length is known: enough for HEAD."""

    size: int
    local: str = ""
    descriptor: int = -1

    def read(self, offset: int, count: int) -> bytes:
        raise OSError("the blob is not here")

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""
