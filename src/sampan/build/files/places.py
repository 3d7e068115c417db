"""Paths in the state of a stage: where they lead, and what is there. The helper looks, we ask."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from sampan.build.worker import Worker
from sampan.errors import InvalidArgument, NotFound
from sampan.storage.archives.tar_reader import TarReader

_FOLDER: Final = 1 << 31  # Go's os.ModeDir
_LINK: Final = 1 << 27  # os.ModeSymlink
_PIECE: Final = 1 << 18
_ACCOUNTS: Final = 1 << 20  # bytes of /etc/passwd that are read


@dataclass(frozen=True, slots=True)
class Place:
    """A path without links, relative to the root."""

    path: bytes
    exists: bool
    is_folder: bool
    missing: int  # how many of its last components do not exist

    def missing_folders(self) -> list[bytes]:
        """Return the folders above it that do not exist, uppermost first."""
        parts = self.path.split(b"/")
        first = len(parts) - self.missing + 1
        return [b"/".join(parts[:end]) for end in range(first, len(parts))]


async def locate(worker: Worker, chain: str | None, path: str) -> Place:
    """Return where an absolute path leads; `..` is taken away by the letter."""
    waiting = _parts(path)[::-1]
    done: list[str] = []
    is_folder = True
    while waiting:
        part = waiting.pop()
        there = await worker.stat(chain, "/" + "/".join([*done, part]))
        if there is None:
            rest = [part, *waiting[::-1]]
            return Place(_encoded([*done, *rest]), False, False, len(rest))
        if not is_folder:
            raise InvalidArgument(f"/{'/'.join(done)} is not a directory")
        if there.mode & _LINK:
            target = _parts(there.link_target)
            if target == [*done, part]:
                raise InvalidArgument(f"/{'/'.join(target)}: too many levels of symbolic links")
            done, is_folder = [], True
            waiting += target[::-1]
            continue
        done.append(part)
        is_folder = bool(there.mode & _FOLDER)
        if not is_folder and waiting:
            raise InvalidArgument(f"/{'/'.join(done)} is not a directory")
    return Place(_encoded(done), True, is_folder, 0)


def _parts(path: str) -> list[str]:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _encoded(parts: list[str]) -> bytes:
    return "/".join(parts).encode("utf-8", "surrogateescape")


async def owner_of(worker: Worker, chain: str | None, text: str) -> tuple[int, int]:
    """Return the ids that --chown means: user[:group], by names of the image or by numbers."""
    user, colon, group = text.partition(":")
    if not user or (colon and not group):
        raise InvalidArgument(f"invalid chown string: {text}")
    uid, gid = _number(user), _number(group) if group else None
    if uid is None:
        row = await _account(worker, chain, "/etc/passwd", user, "user")
        uid = int(row[2])
        if not group:
            gid = int(row[3])
    if group and gid is None:
        gid = int((await _account(worker, chain, "/etc/group", group, "group"))[2])
    return uid, uid if gid is None else gid


def _number(text: str) -> int | None:
    if text.isascii() and text.isdecimal():
        if len(text) > 10 or int(text) >= 2**32 - 1:
            raise InvalidArgument(f"invalid id: {text}")
        return int(text)
    return None


async def _account(worker: Worker, chain: str | None, path: str, name: str, kind: str) -> list[str]:
    for line in (await read_file(worker, chain, path)).splitlines():
        fields = line.split(":")
        numbers = fields[2:4] if kind == "user" else fields[2:3]
        if fields[0] == name and len(fields) > 3 and all(_number(it) is not None for it in numbers):
            return fields
    raise InvalidArgument(
        f"unable to convert uid/gid chown string to host mapping: can't find"
        f" {'uid for user' if kind == 'user' else 'gid for group'} {name}"
    )


async def read_file(worker: Worker, chain: str | None, path: str) -> str:
    """Return the content of a small file of a state; "" if there is none."""
    if chain is None:
        return ""
    place = await locate(worker, chain, path)
    if not place.exists or place.is_folder:
        return ""

    def read(fd: int) -> str:
        reader = TarReader(iter(lambda: os.read(fd, _PIECE), b""))
        for entry in reader:
            if entry.size <= _ACCOUNTS:
                return reader.read_whole(_ACCOUNTS).decode("utf-8", "surrogateescape")
            break
        return ""

    try:
        return await worker.pack(chain, "/" + place.path.decode("utf-8", "surrogateescape"), read)
    except NotFound:
        return ""
