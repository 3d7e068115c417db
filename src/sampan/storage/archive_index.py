"""Where the members of a tar file lie: for archives of images, whose parts refer to one another."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass

from sampan.errors import InvalidArgument
from sampan.storage.applying import entry_parts
from sampan.storage.compression import CHUNK, Read
from sampan.storage.tar_reader import HARDLINK, REGULAR, SYMLINK, TarReader

_LINKS = 16
_MEMBERS = 200_000


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in the archive."""

    offset: int
    size: int


class ArchiveIndex:
    """The members of an uncompressed tar file, by name; links inside the archive are followed."""

    def __init__(self, read: Read) -> None:
        self._files: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        reader = TarReader(iter(lambda: read(CHUNK), b""))
        for entry in reader:
            name = "/".join(map(os.fsdecode, entry_parts(entry.name)))
            if entry.kind == REGULAR and entry.sparse is None:
                self._files[name] = Member(reader.position, entry.size)
                self._links.pop(name, None)
            elif entry.kind == SYMLINK:
                target = posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link))
                self._links[name] = _normal(target)
            elif entry.kind == HARDLINK:
                self._links[name] = _normal(os.fsdecode(entry.link))
            if len(self._files) + len(self._links) > _MEMBERS:
                raise InvalidArgument("invalid archive: too many members")

    def find(self, name: str) -> Member | None:
        """Return a member; a name that climbs out of the archive stays inside it."""
        name = _normal(name)
        for _ in range(_LINKS):
            if name not in self._links:
                return self._files.get(name)
            name = self._links[name]
        return None

    def names(self) -> list[str]:
        """Return the names of all regular members."""
        return list(self._files)


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")
