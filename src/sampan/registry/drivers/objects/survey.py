"""All files of a bucket from one listing: a thousand in a request instead of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from sampan.registry.drivers.objects.bucket import Entry
from sampan.registry.drivers.objects.parts import PARTS, growing


class Reader(Protocol):
    """Reads small files."""

    def read(self, path: str) -> bytes: ...

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | None]: ...


class Listing:
    """What there was when the listing was made; contents are read when they are asked for."""

    def __init__(self, reader: Reader, entries: Iterable[Entry], root: str) -> None:
        self._reader = reader
        self._sizes: dict[str, int] = {}
        self._folders: dict[str, set[str]] = {}
        for entry in entries:
            path = entry.key.removeprefix(root)
            self._sizes[path] = entry.size
            while path:  # up to the first folder that is known
                folder, _, name = path.rpartition("/")
                names = self._folders.setdefault(folder, set())
                if name in names:
                    break
                names.add(name)
                path = folder

    def read(self, path: str) -> bytes:
        return self._reader.read(path)

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        return self._reader.read_many(paths)

    def size(self, path: str) -> int:
        try:
            return self._sizes[path]
        except KeyError:
            raise FileNotFoundError(2, "No such object", path) from None

    def grown(self, path: str, note: str) -> int:
        folder = path + PARTS
        inside = [path, *(folder + name for name in self.list(folder.rstrip("/")))]
        found = growing(
            [Entry(one, self._sizes[one]) for one in inside if one in self._sizes], path
        )
        if not found:
            self.size(note)  # raises FileNotFoundError
        return sum(part.size for part in found)

    def list(self, path: str) -> list[str]:
        return sorted(self._folders.get(path, ()))
