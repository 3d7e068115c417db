"""What a layer leaves open while it is unpacked, because it depends on the layers below it.

Layers of an overlay are unpacked before their parents are there. Directories that the archive uses
without listing them take their owner and mode from below, hard links may lead to files below, and
a lowest layer has nothing to hide. `settling.py` finishes all that when the parent is known.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sampan.errors import InvalidArgument
from sampan.linux import trees

FILE: Final = "pending"
HOLDERS: Final = "links"  # beside the tree: one placeholder file for each target of links
MAX_BYTES: Final = 64 << 20  # of all paths that are noted
_EACH: Final = 64


class Pending(msgspec.Struct, kw_only=True):
    """The file `pending` of a staged snapshot."""

    implied: list[bytes]  # directories that were made without an entry
    whiteouts: list[bytes]
    links: list[bytes]  # targets; the names are links to the placeholder with the target's number


class Deferred:
    """Collects what is left open; `folder` is the snapshot's, beside its tree."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._implied: dict[bytes, None] = {}
        self._whiteouts: list[bytes] = []
        self._targets: dict[bytes, int] = {}
        self._bytes = 0
        self._holders = -1

    @property
    def has_whiteouts(self) -> bool:
        """Some were written."""
        return bool(self._whiteouts)

    def implied(self, path: bytes) -> None:
        """Note a directory that the archive did not list (yet)."""
        self._count(path)
        self._implied[path] = None

    def listed(self, path: bytes) -> None:
        """The archive lists this directory after all."""
        self._implied.pop(path, None)

    def whiteout(self, path: bytes) -> None:
        """Note the path of a whiteout device."""
        self._count(path)
        self._whiteouts.append(path)

    def holder(self, target: bytes) -> tuple[int, bytes]:
        """Return folder and name of the file that stands for a file of a lower layer."""
        number = self._targets.get(target)
        if number is not None:
            return self._holders, b"%d" % number
        self._count(target)
        number = self._targets[target] = len(self._targets)
        name = b"%d" % number
        if self._holders < 0:
            os.mkdir(self._folder / HOLDERS, 0o700)
            self._holders = os.open(self._folder / HOLDERS, trees.DIRECTORY)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o600, dir_fd=self._holders))
        return self._holders, name

    def _count(self, path: bytes) -> None:
        self._bytes += len(path) + _EACH
        if self._bytes > MAX_BYTES:
            raise InvalidArgument("the archive depends too much on what it does not contain")

    def save(self) -> None:
        """Write what is left open beside the tree, if anything is."""
        if self._implied or self._whiteouts or self._targets:
            pending = Pending(
                implied=list(self._implied),
                whiteouts=self._whiteouts,
                links=list(self._targets),
            )
            (self._folder / FILE).write_bytes(msgspec.msgpack.encode(pending))

    def close(self) -> None:
        """Close what is open."""
        fd, self._holders = self._holders, -1
        if fd >= 0:
            os.close(fd)


def read_pending(folder: Path) -> Pending | None:
    """Return what a staged snapshot left open; None if nothing."""
    with suppress(FileNotFoundError):
        return msgspec.msgpack.decode((folder / FILE).read_bytes(), type=Pending)
    return None
