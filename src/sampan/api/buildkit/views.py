"""Files that clients look at before they build: of remote contexts, by ReadFile and StatFile.

Source: buildkit frontend/gateway/gateway.go (ReadFile, StatFile), cache/util/fsutil.go.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from sampan.api.buildkit.filemodes import stat_of
from sampan.build.files.tree import File, Spool, Tree
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.buildkit.gateway_pb2 import FileRange
from sampan.spec.buildkit.session_pb2 import Stat
from sampan.storage.archives.tar_fields import REGULAR

_LARGEST: Final = 8 << 20  # bytes that are given at once


@dataclass(frozen=True, slots=True)
class View:
    """The files of one source."""

    tree: Tree

    @classmethod
    def empty(cls, scratch: int) -> View:
        """Return a view on nothing, whose contents go into a file without a name."""
        return cls(Tree(Spool(scratch)))

    def close(self) -> None:
        """Give the space back."""
        self.tree.spool.close()

    def stat(self, path: str) -> Stat:
        """Return what a path is."""
        return stat_of(os.fsencode(path).strip(b"/"), self._find(path))

    def read(self, path: str, part: FileRange) -> bytes:
        """Return a file, or a part of it."""
        file = self._find(path)
        if file.kind != REGULAR:
            raise InvalidArgument(f"{path} is no regular file")
        start = max(part.Offset, 0)
        size = max(file.stored - start, 0)
        if part.Length > 0:
            size = min(size, part.Length)
        if size > _LARGEST:
            raise InvalidArgument(f"{path} has more than {_LARGEST} bytes")
        return os.pread(self.tree.spool.fd, size, file.at + start) if size else b""

    def _find(self, path: str) -> File:
        try:
            return self.tree.find(os.fsencode(path))
        except NotFound:
            raise NotFound(f"lstat {path}: no such file or directory") from None
