"""Layers changed on their way: without the places of mounts, with earlier times, several as one."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.build.files.layer import Item, write_layer
from sampan.build.files.tree import File, Spool, Tree, walk
from sampan.spec.image import OPAQUE_WHITEOUT, WHITEOUT
from sampan.storage.archives.compression import plain_chunks, reader_of
from sampan.storage.archives.tar_fields import REGULAR


class Rewriting:
    """The layer of one step. `places` were made for mounts: they go, if nothing is in them."""

    def __init__(self, spool: Spool, places: Sequence[bytes], epoch: int | None) -> None:
        self._tree = Tree(spool)
        self._places, self._epoch = places, epoch

    def read(self, fd: int) -> None:
        """Take the archive of what a step has changed."""
        with self._tree.spool.lock:
            self._tree.read(plain_chunks(reader_of(fd)))
        for place in sorted(self._places, reverse=True):  # what is below goes first
            self._remove_empty(place)

    def _remove_empty(self, path: bytes) -> None:
        parent = self._tree.root
        *above, name = path.split(b"/")
        for part in above:
            found = parent.children.get(part)
            if found is None:
                return
            parent = found
        file = parent.children.get(name)
        if file is None:
            return
        if (file.is_folder and not file.children) or (file.kind == REGULAR and not file.size):
            del parent.children[name]

    def write(self, into: int) -> None:
        """Write the archive of the layer."""
        write_layer(items_of(self._tree), into, self._epoch, whiteouts=True)


def items_of(tree: Tree) -> list[Item]:
    """Return everything in a tree, as it is."""
    return [Item(path, file, tree.spool) for path, file in walk(tree.root)]


class Squashing:
    """Several layers, lowest first, that become one."""

    def __init__(self, spool: Spool) -> None:
        self._tree = Tree(spool)

    def read(self, fd: int) -> None:
        """Put the next layer on those before."""
        layer = Tree(self._tree.spool)
        with layer.spool.lock:
            layer.read(plain_chunks(reader_of(fd)))
        _merge(self._tree.root, layer.root)

    def write(self, into: int) -> None:
        """Write the archive of all of them."""
        write_layer(items_of(self._tree), into, whiteouts=True)


def _merge(below: File, above: File) -> None:
    """Change a folder as a layer says; its whiteouts stay, for what lies below all layers."""
    if OPAQUE_WHITEOUT in above.children:
        below.children.clear()
    for name in above.children:
        if name.startswith(WHITEOUT) and name != OPAQUE_WHITEOUT:
            below.children.pop(name.removeprefix(WHITEOUT), None)
    for name, file in above.children.items():
        old = below.children.get(name)
        if old is not None and old.is_folder and file.is_folder:
            _merge(old, file)
            file.children = old.children
        below.children.pop(WHITEOUT + name, None)
        below.children[name] = file
