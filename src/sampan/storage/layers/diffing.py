"""What a writable snapshot changed: as `docker diff` lists it, and as a layer.

Source: moby/go-archive changes.go (rules of the list), opencontainers/image-spec layer.md
(whiteouts in layers).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sampan.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from sampan.linux.trees import DIRECTORY, Node, Walk
from sampan.spec.image import OPAQUE_WHITEOUT, WHITEOUT
from sampan.storage.archives.packing import Packer
from sampan.storage.archives.tar_writer import TarWriter, file_entry
from sampan.storage.layers.comparing import (
    ADDED,
    DELETED,
    MODIFIED,
    Found,
    before_of,
    compare,
    differ,
)
from sampan.storage.layers.generations import compare_snapshot, nodes
from sampan.storage.layers.whiteouts import is_whiteout
from sampan.storage.mounter import Change

_NOTHING: Final = b"/"  # no path in a tree


@dataclass(frozen=True, slots=True)
class Marks:
    """How an upper directory says what is gone, besides devices with the number 0:0.

    `opaque`: attributes of a directory that hides what is below; the first is the one to write.
    `named`: files may also be marks by their names, as in archives.
    """

    opaque: tuple[str, ...]
    named: bool = False


KERNEL_MARKS: Final = Marks(("trusted.overlay.opaque",))
USER_MARKS: Final = Marks(("user.overlay.opaque",))  # with the option userxattr
# Source: containers/fuse-overlayfs, main.c and utils.c
FUSE_MARKS: Final = Marks(
    ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"), named=True
)
FUSE_USER_MARKS: Final = Marks(FUSE_MARKS.opaque[::-1], named=True)


def overlay_changes(upper: int, lower: int | None, marks: Marks = KERNEL_MARKS) -> list[Change]:
    """Return the changes that an overlay's upper directory makes to the tree `lower`."""
    found: Found = {}
    for node in Walk(upper):
        hidden = _hidden_by(node, marks)
        if hidden == _NOTHING:
            continue
        if hidden:
            if before_of(lower, hidden) is not None:
                found[hidden] = DELETED
            continue
        before = before_of(lower, node.path)
        if before is None:
            found[node.path] = ADDED
        elif differ(before, node.status):
            found[node.path] = MODIFIED
        if node.is_folder and before and stat.S_ISDIR(before.st_mode) and is_opaque(node, marks):
            found |= dict.fromkeys(_hidden(node, lower), DELETED)
    return _listed(found)


def tree_changes(new: int, old: int | None) -> list[Change]:
    """Return the differences of two whole trees."""
    return _listed(compare(new, old))


def snapshot_changes(new: int, old: int | None) -> list[Change]:
    """Return the differences of a btrfs snapshot and what it was made of."""
    return _listed(compare_snapshot(new, old))


def snapshot_diff(new: int, old: int | None, writer: TarWriter) -> None:
    """Write what differs between a btrfs snapshot and what it was made of as a layer."""
    _write(compare_snapshot(new, old), new, writer)


def tree_usage(new: int, old: int | None) -> tuple[int, int]:
    """Return (bytes, inodes) of the files in which a tree differs from another."""
    return _usage(compare(new, old), new)


def snapshot_usage(new: int, old: int | None) -> tuple[int, int]:
    """Return (bytes, inodes) of the files in which a btrfs snapshot differs from its original."""
    return _usage(compare_snapshot(new, old), new)


def _usage(found: Found, new: int) -> tuple[int, int]:
    size = inodes = 0
    seen: set[tuple[int, int]] = set()
    for node in nodes(new, found):
        identity = node.status.st_dev, node.status.st_ino
        if identity in seen:
            continue
        seen.add(identity)
        inodes += 1
        if not node.is_folder:
            size += node.status.st_size
    return size, inodes


def overlay_diff(upper: int, writer: TarWriter, marks: Marks = KERNEL_MARKS) -> None:
    """Write an overlay's upper directory as a layer."""
    packer = Packer(writer)
    for node in Walk(upper):
        hidden = _hidden_by(node, marks)
        if hidden == _NOTHING:
            continue
        if hidden:
            _whiteout(writer, hidden, node.status.st_mtime_ns)
            continue
        packer.add(node, node.path)
        if node.is_folder and is_opaque(node, marks):
            entry = file_entry("", 0, node.status.st_mtime_ns, 0o600)
            entry.name = node.path + b"/" + OPAQUE_WHITEOUT
            writer.header(entry)


def tree_diff(new: int, old: int | None, writer: TarWriter) -> None:
    """Write what differs between two whole trees as a layer."""
    _write(compare(new, old), new, writer)


def _write(found: Found, new: int, writer: TarWriter) -> None:
    needed = _with_folders(found)
    packer = Packer(writer)
    for node in nodes(new, needed):
        packer.add(node, node.path)
    for path in sorted(path for path, kind in found.items() if kind == DELETED):
        _whiteout(writer, path, 0)


def is_opaque(node: Node, marks: Marks = KERNEL_MARKS) -> bool:
    """Tell whether an overlay directory hides what lies below it."""
    path = b"/proc/self/fd/%d/%s" % (node.folder, node.name)
    for name in marks.opaque:
        with suppress(OSError):
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
    return marks.named and os.path.lexists(path + b"/" + OPAQUE_WHITEOUT)


def _hidden_by(node: Node, marks: Marks) -> bytes:
    """Return the path that a node says is gone; "" if it is no mark, _NOTHING for other marks."""
    if marks.named and node.name.startswith(WHITEOUT):
        name = node.name.removeprefix(WHITEOUT)
        # Devices with such names are its marks, too, but for no file that there ever was.
        if name.startswith(WHITEOUT) or not stat.S_ISREG(node.status.st_mode):
            return _NOTHING
        return node.path[: -len(node.name)] + name
    return node.path if is_whiteout(node.status) else b""


def _whiteout(writer: TarWriter, path: bytes, mtime: int) -> None:
    folder, slash, name = path.rpartition(b"/")
    entry = file_entry("", 0, mtime // 10**9 * 10**9, 0o600)
    entry.name = folder + slash + WHITEOUT + name
    writer.header(entry)


def _hidden(node: Node, lower: int | None) -> Iterator[bytes]:
    """Yield what an opaque directory hides and does not bring again."""
    if lower is None:
        return
    below = openat2(lower, node.path, DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        above = os.open(node.name, DIRECTORY, dir_fd=node.folder)
        try:
            for name in set(os.listdir(below)) - set(os.listdir(above)):
                yield node.path + b"/" + os.fsencode(name)
        finally:
            os.close(above)
    finally:
        os.close(below)


def _with_folders(found: Found) -> Found:
    """Return the changes with the folders that something changed in, as modified."""
    whole = dict(found)
    for path in found:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in whole:
            whole[folder] = MODIFIED
            folder = folder.rpartition(b"/")[0]
    return whole


def _listed(found: Found) -> list[Change]:
    return [
        Change(path="/" + path.decode("utf-8", "replace"), kind=kind)
        for path, kind in sorted(_with_folders(found).items())
    ]
