"""What an archive says is deleted: files `.wh.NAME`, and the marks that overlay has for them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sampan.errors import InvalidArgument
from sampan.linux import trees
from sampan.spec.image import OPAQUE_WHITEOUT, WHITEOUT
from sampan.storage.layers.deferred import Deferred
from sampan.storage.layers.placing import Parents
from sampan.storage.layers.rules import Rules

_META: Final = b".wh..wh."  # the book-keeping of aufs


class WhiteoutWriter:
    """Does what the whiteouts of one archive say, by the rules of the tree.

    `remove` takes what is deleted out of a directory; `deferred` learns of the marks.
    """

    def __init__(
        self,
        rules: Rules,
        parents: Parents,
        remove: Callable[[int, bytes], object],
        deferred: Deferred | None,
    ) -> None:
        self._rules, self._parents = rules, parents
        self._remove, self._deferred = remove, deferred
        self._brought: set[bytes] = set()  # with the directories above

    def note(self, path: bytes) -> None:
        """Note what the archive brings itself: where whiteouts delete, they spare it."""
        if self._rules.whiteouts == "delete":
            while path and path not in self._brought:
                self._brought.add(path)
                path = path.rpartition(b"/")[0]

    def write(self, parent: int, name: bytes, path: bytes) -> None:
        """Do what the member `name` of the directory `parent` says; `path` is where it is."""
        folder = path.rpartition(b"/")[0]
        if name == OPAQUE_WHITEOUT:
            self._hide_all(parent, folder)
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise InvalidArgument(f'invalid whiteout entry "{os.fsdecode(name)}"')
        if name.startswith(_META) or self._rules.whiteouts == "drop":
            return
        where = folder + b"/" + hidden if folder else hidden
        if self._rules.whiteouts == "delete":
            self._remove_lower(parent, hidden, where)
            self._parents.forget()
        else:
            self._mark(parent, hidden, where)

    def _hide_all(self, folder: int, path: bytes) -> None:
        if self._rules.whiteouts == "overlay":
            os.setxattr(f"/proc/self/fd/{folder}", self._rules.opaque, b"y")
        elif self._rules.whiteouts == "delete":
            self._remove_old(folder, path)
            self._parents.forget()

    def _mark(self, parent: int, hidden: bytes, path: bytes) -> None:
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
            if self._deferred:
                self._deferred.whiteout(path)
        except FileExistsError:
            # This layer brings the name itself: only what is below it has to go.
            status = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._set_opaque(parent, hidden)

    def _set_opaque(self, parent: int, name: bytes) -> None:
        fd = os.open(name, trees.DIRECTORY, dir_fd=parent)
        try:
            os.setxattr(fd, self._rules.opaque, b"y")
        finally:
            os.close(fd)

    def _remove_old(self, folder: int, path: bytes) -> None:
        """Remove what this archive did not bring from a directory, at any depth."""
        for child in map(os.fsencode, os.listdir(f"/proc/self/fd/{folder}")):
            self._remove_lower(folder, child, path + b"/" + child if path else child)

    def _remove_lower(self, folder: int, name: bytes, path: bytes) -> None:
        """Remove something, but for what this archive brought; `path` is where it is."""
        if path not in self._brought:
            self._remove(folder, name)
            return
        with suppress(NotADirectoryError):
            below = os.open(name, trees.DIRECTORY, dir_fd=folder)
            try:
                self._remove_old(below, path)
            finally:
                os.close(below)


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether a file is overlay's mark for "deleted": the character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
