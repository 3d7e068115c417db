"""Recording the recipe of a layer while it is unpacked.

Contents of files are looked up by path later. What an archive writes and then replaces, removes or
makes unreachable is not found there any more: such files are kept aside until the archive ends, and
then go into the recipe as they are. That takes a second pass, which ordinary layers never need.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgument
from sampan.linux import trees
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.storage.archives.recipe import NAME, Pieces, RecipeWriter, Record, read_recipe
from sampan.storage.archives.tar_fields import Entry

LOST: Final = "lost"
_MOVED: Final = 1_000_000  # files that are found under another path than their own
_CHUNK: Final = 1 << 20


class Recorder:
    """Writes the recipe of one layer; `folder` is the snapshot's, `tree` the layer's root."""

    def __init__(self, folder: Path, tree: int) -> None:
        self._folder, self._tree = folder, tree
        self._inodes = array("Q")  # of the files, in the recipe's order
        self._lost = -1
        self._undo = ExitStack()
        self._writer = self._undo.enter_context(RecipeWriter(folder / NAME))
        self.literal = self._writer.literal

    def content(self, path: bytes, fd: int, entry: Entry) -> None:
        """The content of `entry` was written to the open file `fd`."""
        pieces = entry.sparse
        stored = entry.stored if pieces is None else sum(length for _, length in pieces)
        if stored:
            self._inodes.append(os.fstat(fd).st_ino)
            self._writer.content(path, stored, pieces)

    def discard(self, parent: int, name: bytes) -> None:
        """Remove something from the tree, and keep what the archive may have brought."""
        if self._lost < 0:
            os.mkdir(self._folder / LOST, 0o700)
            self._lost = os.open(self._folder / LOST, trees.DIRECTORY)
            self._undo.callback(os.close, self._lost)
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISREG(status.st_mode):
            self._keep(parent, name, status)
        elif stat.S_ISDIR(status.st_mode):
            top = os.open(name, trees.DIRECTORY, dir_fd=parent)
            try:
                for node in trees.Walk(top):
                    if stat.S_ISREG(node.status.st_mode):
                        self._keep(node.folder, node.name, node.status)
            finally:
                os.close(top)
        trees.remove(parent, name)

    def _keep(self, parent: int, name: bytes, status: os.stat_result) -> None:
        if not status.st_size:
            return
        aside = b"%d" % status.st_ino
        try:
            os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=self._lost)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with suppress(FileExistsError):  # it has several names
                self._copy(parent, name, aside, status.st_size)

    def _copy(self, parent: int, name: bytes, aside: bytes, size: int) -> None:
        """Keep a file of a subvolume; the copy shares its content."""
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(aside, flags, 0o600, dir_fd=self._lost)
            try:
                trees.copy_content(source, target, size)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def finish(self) -> None:
        """Complete the recipe; after the last byte of the archive."""
        self._writer.finish()
        with self._undo:
            if self._lost >= 0:
                self._settle()

    def close(self) -> None:
        """Close what is open."""
        self._undo.close()

    # --- the second pass ---------------------------------------------------------------------

    def _settle(self) -> None:
        self._writer.__exit__(None, None, None)
        recipe = self._folder / NAME
        moved = self._find_moved(recipe)
        fresh = recipe.with_name(NAME + ".new")
        with RecipeWriter(fresh) as writer:
            for record, inode in self._files(recipe):
                writer.literal(record.literal)
                if not record.path:
                    continue
                if path := moved.get(inode, b"") or self._reached(record.path, inode):
                    writer.content(path, record.size, record.pieces)
                else:
                    self._inline(writer, record, inode)
            writer.finish()
        os.rename(fresh, recipe)
        own = os.open(self._folder, trees.DIRECTORY)
        try:
            trees.remove(own, LOST.encode())
        finally:
            os.close(own)

    def _files(self, recipe: Path) -> Iterator[tuple[Record, int]]:
        inodes = iter(self._inodes)
        for record in read_recipe(recipe):
            yield record, next(inodes) if record.path else 0

    def _reached(self, path: bytes, inode: int) -> bytes:
        """Return the path if it still leads to the file, else nothing."""
        folder, _, name = path.rpartition(b"/")
        try:
            parent = open_in_root(self._tree, folder, O_DIRECTORY)
        except OSError:
            return b""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError:
            return b""
        finally:
            os.close(parent)
        return path if found.st_ino == inode else b""

    def _is_lost(self, inode: int) -> bool:
        try:
            os.stat(b"%d" % inode, dir_fd=self._lost)
        except FileNotFoundError:
            return False
        return True

    def _find_moved(self, recipe: Path) -> dict[int, bytes]:
        """Return other paths of files that their own do not lead to: by links, or replaced ones."""
        wanted: set[int] = set()
        for record, inode in self._files(recipe):
            if record.path and not self._reached(record.path, inode) and not self._is_lost(inode):
                wanted.add(inode)
                if len(wanted) > _MOVED:
                    raise InvalidArgument("the archive replaces too much of what it contains")
        found: dict[int, bytes] = {}
        if wanted:
            for node in trees.Walk(self._tree):
                if node.status.st_ino in wanted and stat.S_ISREG(node.status.st_mode):
                    found.setdefault(node.status.st_ino, node.path)
        return found

    def _inline(self, writer: RecipeWriter, record: Record, inode: int) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(b"%d" % inode, flags, dir_fd=self._lost)
        try:
            for data in stored_content(fd, record.size, record.pieces):
                writer.literal(data)
        finally:
            os.close(fd)


def stored_content(fd: int, size: int, pieces: Pieces | None) -> Iterator[bytes]:
    """Yield what an archive stores of a file; InvalidArgument if the file is too short."""
    for at, length in [(0, size)] if pieces is None else pieces:
        end = at + length
        while at < end:
            data = os.pread(fd, min(_CHUNK, end - at), at)
            if not data:
                raise InvalidArgument("a file of the layer is shorter than it was")
            at += len(data)
            yield data
