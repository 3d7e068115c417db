"""Whom the files of a bind or volume belong to: the words `U` and `idmap` of `-v`'s third part.

Their syntax is podman's. A plain `idmap` means here what it is for: files of the source's owner
belong to the container's user, and the other way round; nobody else's can be written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sampan.errors import InvalidArgument
from sampan.spec.runtime import LinuxIDMapping

MAX_ID = (1 << 32) - 2
_ALL = LinuxIDMapping(container_id=0, host_id=0, size=MAX_ID + 1)


@dataclass(slots=True)
class Ownership:
    """What a mode says of owners."""

    chown: bool = False  # U: all files are given to the container's user
    owner: bool = False  # idmap: the source's owner is the container's user
    uids: list[LinuxIDMapping] = field(default_factory=list)  # id on disk → id of the host
    gids: list[LinuxIDMapping] = field(default_factory=list)
    inside: frozenset[str] = frozenset()  # of uids, gids: those that are ids of the container

    @property
    def is_plain(self) -> bool:
        """Tell whether nothing is said."""
        return not (self.chown or self.owner or self.uids or self.gids)


def split_ownership(mode: str) -> tuple[list[str], Ownership]:
    """Return the other words of a mode, and what it says of owners; raises InvalidArgument."""
    rest, found = [], Ownership()
    for word in mode.split(",") if mode else ():
        key, equals, value = word.partition("=")
        if word == "U":
            found.chown = True
        elif word == "idmap":
            found.owner = True
        elif key == "idmap" and equals:
            _read_maps(found, value, mode)
        else:
            rest.append(word)
    if found.chown + found.owner + bool(found.uids or found.gids) > 1:
        raise InvalidArgument(f"invalid mode: {mode}: U and idmap exclude each other")
    return rest, found


def _read_maps(found: Ownership, text: str, mode: str) -> None:
    """Read uids=DISK-HOST-SIZE#…;gids=…; an @ before a map: the ids are the container's."""
    inside = set()
    for part in text.split(";"):
        key, equals, value = part.partition("=")
        if key not in ("uids", "gids") or not equals or getattr(found, key):
            raise InvalidArgument(f"invalid mode: {mode}: an idmap is uids=A-B-N#…;gids=A-B-N#…")
        if value.startswith("@"):
            inside.add(key)
        setattr(found, key, [_mapping(each, mode) for each in value.removeprefix("@").split("#")])
    found.inside = frozenset(inside)
    found.uids = found.uids or [_ALL]
    found.gids = found.gids or [_ALL]


def _mapping(text: str, mode: str) -> LinuxIDMapping:
    parts = text.split("-")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) <= 10 for p in parts):
        raise InvalidArgument(f"invalid mode: {mode}: {text!r} is not DISK-HOST-SIZE")
    disk, host, size = map(int, parts)
    if not size or max(disk, host) + size - 1 > MAX_ID:
        raise InvalidArgument(f"invalid mode: {mode}: {text!r} has impossible ids")
    return LinuxIDMapping(container_id=disk, host_id=host, size=size)


def on_host(maps: list[LinuxIDMapping], of_container: list[LinuxIDMapping]) -> list[LinuxIDMapping]:
    """Return maps whose second ids, those of a container, are the host's; `of_container` as is.

    A map may lie across several of the container's; what does not exist there is left out.
    """
    if not of_container:
        return maps
    found = []
    for each in maps:
        for own in of_container:
            start = max(each.host_id, own.container_id)
            end = min(each.host_id + each.size, own.container_id + own.size)
            if start < end:
                found.append(
                    LinuxIDMapping(
                        container_id=each.container_id + start - each.host_id,
                        host_id=own.host_id + start - own.container_id,
                        size=end - start,
                    )
                )
    return found
