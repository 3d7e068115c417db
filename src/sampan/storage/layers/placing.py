"""Where the members of an archive go: the directories above them, found once and kept open.

Every parent is resolved with openat2(RESOLVE_IN_ROOT), so that a link in the tree means what it
means to a process inside, and nothing outside can be touched. Archives list neighbours together,
so a small cache is enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from sampan.linux import trees
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.storage.inside import evaluate, parts_of
from sampan.storage.layers.members import entry_parts

_OPEN_PARENTS: Final = 128
_NO_NAMES: Final = (b"", b".", b"..")


class Parents:
    """The open directories of the tree whose root directory is `root`.

    Members go below `base`. `implied` is told the path of each directory that an archive uses
    without listing it, once it is made.
    """

    def __init__(
        self, root: int, base: Sequence[bytes], implied: Callable[[bytes], None] | None = None
    ) -> None:
        self._root, self._base, self._on_implied = root, base, implied
        self._open: dict[bytes, int] = {}
        self._heads: dict[bytes, tuple[int, bytes]] = {}  # as written → descriptor, prefix of paths

    def place(self, whole: bytes) -> tuple[int, bytes, bytes] | None:
        """Return where a member goes: directory (owned by the cache), name, path; None: the root.

        Directories are found by the letter first, as archives list neighbours together.
        """
        head, _, name = whole.rpartition(b"/")
        known = self._heads.get(head)
        if known and name not in _NO_NAMES:
            return known[0], name, known[1] + name
        parts = entry_parts(whole)
        if not parts:
            return None
        parts = [*self._base, *parts]
        last = parts.pop()
        parent = self._folder(parts)
        prefix = b"/".join([*parts, b""])
        if last == name:
            self._heads[head] = parent, prefix
        return parent, last, prefix + last

    def _folder(self, parts: list[bytes]) -> int:
        """Return a descriptor, owned by the cache, of the directory `parts`; make it if missing."""
        key = b"/".join(parts)
        if (found := self._open.get(key)) is not None:
            return found
        try:
            fd = open_in_root(self._root, key, O_DIRECTORY)
        except FileNotFoundError:
            fd = self._implied(parts, key)
        return self.remember(key, fd)

    def remember(self, key: bytes, fd: int) -> int:
        """Keep the descriptor of a directory, whose path is `key`, from now on; return it."""
        if len(self._open) >= _OPEN_PARENTS:
            self.forget()  # nobody holds more than the one that was asked for last
        if (old := self._open.pop(key, None)) is not None:
            os.close(old)
            self._heads.clear()
        self._open[key] = fd
        return fd

    def forget(self, but: int = -1) -> None:
        """Close all directories but one: something was removed that may have been among them."""
        kept = {key: fd for key, fd in self._open.items() if fd == but}
        for fd in self._open.values():
            if fd != but:
                os.close(fd)
        self._open = kept
        self._heads.clear()

    def _implied(self, parts: list[bytes], key: bytes) -> int:
        """Make a directory that the archive uses without listing it."""
        real = evaluate(self._root, key)
        if real != key:  # through a link whose target is missing
            return os.dup(self._folder(parts_of(real)))
        parent, name = self._folder(parts[:-1]), parts[-1]
        os.mkdir(name, 0o755, dir_fd=parent)
        fd = os.open(name, trees.DIRECTORY, dir_fd=parent)
        try:
            os.fchmod(fd, 0o755)
            if self._on_implied:
                self._on_implied(key)
        except BaseException:
            os.close(fd)
            raise
        return fd
