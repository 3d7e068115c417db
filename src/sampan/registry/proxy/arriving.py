"""Blobs that are not here yet, as endpoints have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self


class Coming(Protocol):
    """A blob on its way."""

    size: int

    async def ready(self, end: int) -> None: ...

    def read(self, offset: int, count: int) -> bytes: ...

    def join(self) -> None: ...

    def leave(self) -> None: ...


class Arriving:
    """A blob as one client reads it while it comes: a Content that has to be waited for."""

    local = ""
    descriptor = -1

    def __init__(self, transfer: Coming) -> None:
        self._transfer: Coming | None = transfer
        self.size = transfer.size
        transfer.join()

    async def ready(self, end: int) -> None:
        """Return when the bytes up to `end` can be read."""
        assert self._transfer is not None
        await self._transfer.ready(end)

    def read(self, offset: int, count: int) -> bytes:
        assert self._transfer is not None
        return self._transfer.read(offset, count)

    def close(self) -> None:
        if self._transfer is not None:
            self._transfer.leave()
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
