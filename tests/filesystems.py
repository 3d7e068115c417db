"""File systems of their own for tests: made in files, mounted by loop devices, gone afterwards."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.session import eventually, scratch, unique

SIZE = "2G"  # sparse: only what is written takes space
MAKE = {
    "btrfs": ["mkfs.btrfs", "--quiet"],
    "ext4": ["mkfs.ext4", "-q", "-O", "project,quota"],
    "xfs": ["mkfs.xfs", "-q"],
}


def kernel_has(kind: str) -> bool:
    """Tell whether the kernel knows a file system, as a module if need be."""
    if modprobe := shutil.which("modprobe"):
        subprocess.run([modprobe, kind], check=False, capture_output=True)
    return kind in Path("/proc/filesystems").read_text().split()


@contextlib.contextmanager
def mounted(kind: str, options: str = "", size: str = SIZE) -> Iterator[Path]:
    """Make a file system of a kind, and mount it for as long as the context lasts."""
    folder = scratch()
    image, root = folder / "image", folder / "root"
    root.mkdir()
    try:
        with open(image, "wb") as file:
            file.truncate(_bytes(size))
        subprocess.run([*MAKE[kind], image], check=True, capture_output=True)
        words = ["-o", ",".join(["loop", *([options] if options else [])])]
        subprocess.run(["mount", *words, image, root], check=True, capture_output=True)
        try:
            yield root
        finally:
            # A process that was just killed may hold it for a moment.
            eventually(lambda: not subprocess.run(["umount", "-q", root], check=False).returncode)
    finally:
        shutil.rmtree(folder)


class Shop:
    """Makes file systems when they are first asked for; all go at the end of the session."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._made: dict[str, Path] = {}

    def __call__(self, kind: str) -> Path:
        """Return the root of the session's file system of that kind."""
        if kind not in self._made:
            self._made[kind] = self._stack.enter_context(mounted(kind))
        return self._made[kind]

    @contextlib.contextmanager
    def folder(self, kind: str) -> Iterator[Path]:
        """Make a folder on a file system of that kind, and remove it afterwards."""
        folder = self(kind) / unique()
        folder.mkdir()
        try:
            yield folder
        finally:
            subprocess.run(["rm", "-rf", folder], check=True)


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"M": 1 << 20, "G": 1 << 30}[size[-1]]
