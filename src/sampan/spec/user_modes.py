"""`--userns`: which user namespace a container is in, and the id maps that this means.

"" (the daemon's default), "host", and "auto[:size=N,uidmapping=C:H:N,gidmapping=C:H:N]", whose
words are podman's: a range of ids of the container's own, some of them mapped to chosen ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec

from sampan.errors import InvalidArgument
from sampan.spec.runtime import LinuxIDMapping

SIZE: Final = 65536  # ids of a range: all that 16 bits can name, as nobody (65534)
MAX_ID: Final = (1 << 32) - 2  # (uid_t) -1 stands for no id
KEEP_ID: Final = (
    "invalid user namespace mode: {}: keep-id means the user of a rootless engine; to map user 1000"
    " of the container to user 1000 of the host, use auto:uidmapping=1000:1000:1"
)


class IdMaps(msgspec.Struct, kw_only=True):
    """The maps of a user namespace."""

    uids: list[LinuxIDMapping]
    gids: list[LinuxIDMapping]


@dataclass(frozen=True, slots=True)
class UserMode:
    """`HostConfig.UsernsMode`, parsed."""

    kind: str  # "", "host" or "auto"
    size: int = SIZE
    uids: tuple[LinuxIDMapping, ...] = ()  # instead of those of the range
    gids: tuple[LinuxIDMapping, ...] = ()


def parse_user_mode(text: str) -> UserMode:
    """Return the mode; raises InvalidArgument."""
    kind, colon, rest = text.partition(":")
    if kind == "keep-id":
        raise InvalidArgument(KEEP_ID.format(text))
    if kind not in ("", "host", "auto") or (colon and (kind != "auto" or not rest)):
        raise InvalidArgument(f"invalid user namespace mode: {text}")
    size = SIZE
    found: dict[str, list[LinuxIDMapping]] = {"uidmapping": [], "gidmapping": []}
    for word in rest.split(",") if rest else ():
        key, _, value = word.partition("=")
        if key == "size":
            size = _number(value, text)
            if not 0 < size <= MAX_ID:
                raise InvalidArgument(f"invalid user namespace mode: {text}: size must be positive")
        elif key in found:
            found[key].append(_mapping(value, text))
        else:
            raise InvalidArgument(f"invalid user namespace mode: {text}: unknown option {key!r}")
    uids, gids = (tuple(found[key]) for key in ("uidmapping", "gidmapping"))
    for chosen in (uids, gids):
        spread(MAX_ID + 1 - size, size, chosen, text)  # raises for what can never be
    return UserMode(kind, size, uids, gids)


def _mapping(value: str, text: str) -> LinuxIDMapping:
    numbers = [_number(part, text) for part in value.split(":")]
    if len(numbers) != 3:
        raise InvalidArgument(
            f"invalid user namespace mode: {text}: {value!r} is not CONTAINER:HOST:SIZE"
        )
    inside, outside, size = numbers
    if not size or max(inside, outside) + size - 1 > MAX_ID:
        raise InvalidArgument(f"invalid user namespace mode: {text}: {value!r} has impossible ids")
    return LinuxIDMapping(container_id=inside, host_id=outside, size=size)


def _number(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise InvalidArgument(f"invalid user namespace mode: {text}: {digits!r} is not a number")
    return int(digits)


def spread(
    first: int, size: int, chosen: Sequence[LinuxIDMapping] = (), text: str = ""
) -> list[LinuxIDMapping]:
    """Return the map of a range: id N inside is `first` + N, but for those that are chosen.

    Raises InvalidArgument if chosen ids overlap.
    """
    ordered = sorted(chosen, key=lambda each: each.container_id)
    outside = sorted((each.host_id, each.size) for each in chosen)
    inside = [(each.container_id, each.size) for each in ordered]
    for before, after in (*pairwise(inside), *pairwise(outside)):
        if sum(before) > after[0]:
            raise InvalidArgument(f"invalid user namespace mode: {text}: ids are mapped twice")
    found, at = [], 0
    for each in ordered:
        if at < min(each.container_id, size):
            length = min(each.container_id, size) - at
            found.append(LinuxIDMapping(container_id=at, host_id=first + at, size=length))
        found.append(each)
        at = each.container_id + each.size
    if at < size:
        found.append(LinuxIDMapping(container_id=at, host_id=first + at, size=size - at))
    return found


def maps_of_range(first: int, mode: UserMode) -> IdMaps:
    """Return the maps of a container that got a range."""
    return IdMaps(
        uids=spread(first, mode.size, mode.uids), gids=spread(first, mode.size, mode.gids)
    )
