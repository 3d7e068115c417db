"""Finishing a staged layer when its parents are known: see `deferred.py`.

Everything here may be repeated for the same parent after a crash, and gives the same tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sampan.linux import trees
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.storage.inside import evaluate, parts_of
from sampan.storage.layers.deferred import HOLDERS, Pending
from sampan.storage.layers.members import blamed
from sampan.storage.layers.whiteouts import is_whiteout

_NODE: Final = b".node"  # the name of what takes the place of a placeholder, after its number
_IN_THE_WAY: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Settler:
    """Finishes one layer: `tree` is its own directory, `lower` what its parents show, or None.

    `folder` is the snapshot's own folder, where the placeholders of links are; `opaque` the
    attribute of a directory that hides what is below.
    """

    def __init__(self, folder: int, tree: int, lower: int | None, opaque: str) -> None:
        self._folder, self._tree, self._lower = folder, tree, lower
        self._opaque = opaque

    def settle(self, pending: Pending) -> None:
        """Finish the layer; InvalidArgument if it links to what its parents do not have."""
        if self._lower is None:
            for path in pending.whiteouts:
                self._drop_whiteout(path)
        else:
            for path in pending.implied:
                self._take_attributes(path, self._lower)
        if not pending.links:
            return
        with suppress(FileNotFoundError):  # an earlier attempt came to its end
            holders = os.open(HOLDERS, trees.DIRECTORY, dir_fd=self._folder)
            try:
                for number, target in enumerate(pending.links):
                    try:
                        self._link(holders, b"%d" % number, target)
                    except OSError as error:
                        raise blamed(error, target) from error
            finally:
                os.close(holders)

    def _drop_whiteout(self, path: bytes) -> None:
        """Remove a mark that hides nothing, because nothing lies below."""
        folder, _, name = path.rpartition(b"/")
        try:
            parent = open_in_root(self._tree, folder, trees.DIRECTORY)
        except OSError:
            return  # a later entry took its place
        try:
            with suppress(FileNotFoundError), _same_time(parent):
                if is_whiteout(os.stat(name, dir_fd=parent, follow_symlinks=False)):
                    os.unlink(name, dir_fd=parent)
        finally:
            os.close(parent)

    def _take_attributes(self, path: bytes, lower: int) -> None:
        try:
            model = open_in_root(lower, path, trees.DIRECTORY)
        except OSError:
            return
        try:
            fd = open_in_root(self._tree, path, trees.DIRECTORY, links=False)
        except OSError:
            return  # a later entry took its place
        else:
            try:
                trees.copy_attributes(model, fd)
            finally:
                os.close(fd)
        finally:
            os.close(model)

    # --- links to files of lower layers ------------------------------------------------------

    def _link(self, holders: int, name: bytes, target: bytes) -> None:
        """Make a placeholder, which has all names already, the file that `target` is below."""
        try:
            holder = os.stat(name, dir_fd=holders, follow_symlinks=False)
        except FileNotFoundError:
            return
        if holder.st_nlink < 2 and not _exists(holders, name + _NODE):
            return  # later entries took the places of all its names
        if self._lower is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        folder, _, last = target.rpartition(b"/")
        below = open_in_root(self._lower, folder, O_DIRECTORY)
        try:
            status = os.stat(last, dir_fd=below, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            node = trees.Node(target, below, last, status)
            if stat.S_ISREG(status.st_mode):
                _fill(node, holders, name)
            else:
                name = self._replace(node, holders, name, holder)
        finally:
            os.close(below)
        self._copy_up(holders, name, parts_of(evaluate(self._lower, folder)), last)

    def _replace(
        self, node: trees.Node, holders: int, name: bytes, holder: os.stat_result
    ) -> bytes:
        """Give the names of a placeholder to a link or device; return its name in `holders`."""
        made = name + _NODE
        if not _exists(holders, made):
            with suppress(FileExistsError):
                os.mkdir("new", 0o700, dir_fd=holders)
            new = os.open("new", trees.DIRECTORY, dir_fd=holders)
            try:
                trees.remove(new, node.name)
                trees.copy_node(node, new)
                os.rename(node.name, made, src_dir_fd=new, dst_dir_fd=holders)
            finally:
                os.close(new)
        for found in trees.Walk(self._tree):
            if found.status.st_ino == holder.st_ino and not found.is_folder:
                with _same_time(found.folder):
                    trees.remove(holders, b"swap")
                    _link(holders, made, holders, b"swap")
                    os.rename(b"swap", found.name, src_dir_fd=holders, dst_dir_fd=found.folder)
        return made

    def _copy_up(self, holders: int, name: bytes, parts: list[bytes], last: bytes) -> None:
        """Have the target itself be the same file, unless this layer replaced or hid it."""
        assert self._lower is not None
        here = os.open(b".", trees.DIRECTORY, dir_fd=self._tree)
        try:
            for depth, part in enumerate(parts, 1):
                if self._is_opaque(here):
                    return
                try:
                    below = os.open(part, trees.DIRECTORY, dir_fd=here)
                except FileNotFoundError:
                    with _same_time(here):
                        os.mkdir(part, 0o755, dir_fd=here)
                    below = os.open(part, trees.DIRECTORY, dir_fd=here)
                    self._take_attributes(b"/".join(parts[:depth]), self._lower)
                except OSError as error:
                    if error.errno not in _IN_THE_WAY:
                        raise
                    return
                os.close(here)
                here = below
            if not self._is_opaque(here):
                with suppress(FileExistsError), _same_time(here):
                    os.link(name, last, src_dir_fd=holders, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(here)

    def _is_opaque(self, folder: int) -> bool:
        try:
            return os.getxattr(folder, self._opaque) == b"y"
        except OSError:
            return False


def _link(source: int, old: bytes, target: int, new: bytes) -> None:
    os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _fill(node: trees.Node, holders: int, name: bytes) -> None:
    """Write content and attributes of a regular file into a placeholder."""
    source = os.open(node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=node.folder)
    try:
        flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, dir_fd=holders)
        try:
            trees.copy_content(source, target, node.status.st_size)
            trees.copy_attributes(source, target)
            os.utime(target, ns=(node.status.st_atime_ns, node.status.st_mtime_ns))
        finally:
            os.close(target)
    finally:
        os.close(source)


@contextmanager
def _same_time(folder: int) -> Iterator[None]:
    """Change what is in a directory, and not when it was changed."""
    before = os.fstat(folder)
    yield
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def take_root(tree: int, parent: int | None) -> None:
    """Give the root directory of a layer the owner and mode that its parent's has."""
    mode, uid, gid = 0o755, 0, 0
    if parent is not None:
        status = os.fstat(parent)
        mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    now = os.fstat(tree)
    if (now.st_uid, now.st_gid) != (uid, gid):
        os.fchown(tree, uid, gid)
    if stat.S_IMODE(now.st_mode) != mode:
        os.fchmod(tree, mode)
