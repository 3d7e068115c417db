"""A mounter, and shorter words for what tests do with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from sampan.rpc import Fd
from sampan.storage.linux_mounter import LinuxMounter
from tests import tarballs
from tests.layers import add
from tests.tarballs import archive, file, folder, symlink

BASE = archive(
    folder("etc"),
    file("etc/passwd", b"root"),
    file("etc/group", b"root"),
    folder("bin"),
    file("bin/busybox", b"ELF", 0o4755),
    symlink("bin/sh", "busybox"),
    folder("var"),
    folder("var/cache"),
    file("var/cache/one", b"1"),
    file("var/cache/two", b"2"),
)


class Snapshots:
    """A mounter, and shorter words for what tests do with it."""

    def __init__(self, mounter: LinuxMounter) -> None:
        self.mounter = mounter
        self.mounts: list[Fd] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.mounts:
            fd.close()
        self.mounter.close()

    def layers(self, *layers: bytes) -> str:
        """Unpack layers on one another; return the chain id of the last."""
        parent = None
        for count, layer in enumerate(layers, 1):
            chain = tarballs.chain(*layers[:count])
            add(self.mounter, layer, chain, parent)
            parent = chain
        assert parent is not None
        return parent

    def container(self, *layers: bytes) -> Path:
        """Make a writable snapshot on layers; return a path to its mount."""
        self.mounter.prepare("box", self.layers(*layers) if layers else None)
        return self.mount("box")

    def mount(self, key: str, *, read_only: bool = False) -> Path:
        """Return a path to a mount that lasts as long as this object."""
        fd = self.mounter.mount(key, read_only)
        self.mounts.append(fd)
        return Path(f"/proc/self/fd/{fd.number}")

    def changes(self) -> list[tuple[str, str]]:
        """Return the changes by docker diff's letters."""
        return [("CAD"[change.kind], change.path) for change in self.mounter.changes("box")]

    def diff(self) -> bytes:
        """Return the layer of changes."""
        fd = os.memfd_create("diff")
        try:
            self.mounter.diff("box", Fd(fd))
            return tarballs.contents(fd)
        finally:
            os.close(fd)
