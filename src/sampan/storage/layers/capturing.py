"""What a container has written becomes a layer where it lies: nothing is copied.

The archive of the layer exists only as a stream into its digest and its recipe (see `recipe.py`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.trees import Walk
from sampan.storage.archives.digesting import Digesting
from sampan.storage.archives.recipe import RecipeWriter
from sampan.storage.archives.tar_fields import Entry
from sampan.storage.archives.tar_writer import TarWriter
from sampan.storage.layers.layers import Applied

_READ: Final = 1 << 20
_CAPABILITY: Final = "security.capability"
_OF_A_NAMESPACE: Final = 3  # revision of a capability that belongs to one user namespace


class CapturingWriter(TarWriter):
    """Takes an archive that nobody keeps: its digest, and a recipe for making it again."""

    def __init__(self, digesting: Digesting, recipe: RecipeWriter) -> None:
        super().__init__(self._literal)
        self._digesting, self._recipe = digesting, recipe
        self.size = self.entries = 0

    def _literal(self, data: bytes) -> None:
        self._digesting.put(data)
        self._recipe.literal(data)

    def header(self, entry: Entry) -> None:
        """Take the header of a member."""
        self.entries += 1
        self.size += len(entry.link) if entry.link else entry.size
        super().header(entry)

    def add_file(self, entry: Entry, fd: int) -> None:
        """Take a regular file. Raises InvalidArgument if it changes meanwhile."""
        self.header(entry)
        if not entry.size:
            return
        self.flush()
        left = entry.size
        while left and (data := os.read(fd, min(left, _READ))):
            self._digesting.put(data)
            left -= len(data)
        if left:
            raise InvalidArgument("a file has become shorter while a layer was made of it")
        self._recipe.content(entry.name, entry.size)
        self.pad(entry.size)


def capture(tree: int, recipe: Path, diff: Callable[[TarWriter], None]) -> Applied:
    """Write the recipe of the layer that `diff` writes from `tree`; return what is in it.

    Raises Unsupported if there is something in `tree` that the archive does not say.
    """
    _check(tree)
    with RecipeWriter(recipe) as writer, Digesting() as digesting:
        archive = CapturingWriter(digesting, writer)
        diff(archive)
        archive.close()
        writer.finish()
        digest = digesting.digest()
        return Applied(digest, digesting.size, archive.size, archive.entries)


def _check(tree: int) -> None:
    for node in Walk(tree):
        if stat.S_ISSOCK(node.status.st_mode):
            raise Unsupported("a socket is in no archive")
        if stat.S_ISREG(node.status.st_mode) and node.status.st_mode & 0o111:
            path = b"/proc/self/fd/%d/%s" % (node.folder, node.name)
            try:
                value = os.getxattr(path, _CAPABILITY, follow_symlinks=False)
            except OSError:
                continue
            if value[3:4] == bytes([_OF_A_NAMESPACE]):
                raise Unsupported("a capability of a user namespace is in no archive")
