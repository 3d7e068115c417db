"""Comparing the files of a layer with the entries of its archive: kinds, owners, modes, times.

Contents are compared by the digest of the archive, see `repacking.py`; here is all else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sampan.linux import trees
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.spec.image import WHITEOUT
from sampan.storage.archives.tar_fields import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARDLINK,
    REGULAR,
    SYMLINK,
    Entry,
)
from sampan.storage.layers.members import entry_parts
from sampan.storage.layers.whiteouts import is_whiteout

MOST: Final = 500_000  # entries that are kept in memory; larger layers are checked by content only
_TIMES: Final = 1 << 31  # seconds that every file system can keep
_KINDS: Final = {
    REGULAR: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    CHARACTER: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
    FIFO: stat.S_IFIFO,
}


@dataclass(slots=True)
class _Expected:
    """What the last entry with a name says; a hard link only says that there is something."""

    kind: bytes
    mode: int | None
    owner: tuple[int, int]
    size: int
    seconds: int
    link: bytes
    device: int


class TreeCheck:
    """Collects the entries of one archive, then looks at the tree.

    Archives that use links of their own as folders, or list folders after what is in them, cannot
    be compared by name: nothing is said about them.
    `alone`: the tree holds this layer only, so that what is not in the archive is a stranger.
    """

    def __init__(self, tree: int, *, alone: bool) -> None:
        self._tree, self._alone = tree, alone
        self._expected: dict[bytes, _Expected] | None = {}
        self._above: set[bytes] = set()  # directories of what is expected
        self._folder = b"", -1

    def note(self, entry: Entry) -> None:
        """Take the next entry."""
        parts = entry_parts(entry.name)
        if self._expected is None or not parts or parts[-1].startswith(WHITEOUT):
            return
        path = b"/".join(parts)
        before = self._expected.get(path)
        if path in self._above and not (before and before.kind == DIRECTORY == entry.kind):
            self._expected = None  # what is below may lie elsewhere, if this was a link before
            return
        while (path := path.rpartition(b"/")[0]) and path not in self._above:
            self._above.add(path)
        path = b"/".join(parts)
        has_acl = "system.posix_acl_access" in entry.xattrs  # which changes the mode
        self._expected[path] = _Expected(
            entry.kind,
            None if has_acl else entry.mode,
            (entry.uid, entry.gid),
            entry.size,
            entry.mtime // 10**9,
            entry.link,
            os.makedev(entry.major, entry.minor),
        )
        if len(self._expected) > MOST:
            self._expected = None

    def problems(self, *, complete: bool) -> list[str]:
        """Return what differs; strangers only if the archive was read to its end."""
        if self._expected is None:
            return []
        found = []
        try:
            for path, expected in self._expected.items():
                status = self._status(path)
                if status is None:
                    return []  # written through a link: names do not tell what replaced what
                if difference := self._difference(path, status, expected):
                    found.append(f"/{os.fsdecode(path)}: {difference}")
        finally:
            self._close()
        if self._alone and complete:
            found += self._strangers(self._expected)
        return found

    def _status(self, path: bytes) -> os.stat_result | str | None:
        """Return what is at a path; None if a link is on the way to it."""
        folder, _, name = path.rpartition(b"/")
        if self._folder[1] < 0 or self._folder[0] != folder:
            self._close()
            try:
                fd = open_in_root(self._tree, folder, O_DIRECTORY, links=False)
            except FileNotFoundError:
                return "is missing"
            except OSError:
                return None
            self._folder = folder, fd
        try:
            return os.stat(name, dir_fd=self._folder[1], follow_symlinks=False)
        except FileNotFoundError:
            return "is missing"

    def _close(self) -> None:
        if self._folder[1] >= 0:
            os.close(self._folder[1])
        self._folder = b"", -1

    def _difference(self, path: bytes, status: os.stat_result | str, expected: _Expected) -> str:
        if isinstance(status, str):
            return status
        if expected.kind == HARDLINK:
            return ""
        if stat.S_IFMT(status.st_mode) != _KINDS.get(expected.kind):
            return "is of another kind"
        if (status.st_uid, status.st_gid) != expected.owner:
            return "has another owner"
        if expected.kind == SYMLINK:
            name = path.rpartition(b"/")[2]
            same = os.readlink(name, dir_fd=self._folder[1]) == expected.link
            return "" if same else "leads elsewhere"
        if expected.mode is not None and stat.S_IMODE(status.st_mode) != expected.mode:
            return f"has the mode {stat.S_IMODE(status.st_mode):04o}, not {expected.mode:04o}"
        if expected.kind == REGULAR and status.st_size != expected.size:
            return "has another size"
        if expected.kind in (CHARACTER, BLOCK_DEVICE) and status.st_rdev != expected.device:
            return "is another device"
        has_time = expected.kind != DIRECTORY and 0 <= expected.seconds < _TIMES
        if has_time and status.st_mtime_ns // 10**9 != expected.seconds:
            return "has another time"
        return ""

    def _strangers(self, expected: dict[bytes, _Expected]) -> Iterator[str]:
        """Yield files that no entry brought; copies of linked files of lower layers are none."""
        for node in trees.Walk(self._tree):
            if node.is_folder or node.path in expected or is_whiteout(node.status):
                continue
            if node.status.st_nlink == 1 and not node.name.startswith(WHITEOUT):
                yield f"/{os.fsdecode(node.path)}: is not in the archive"
