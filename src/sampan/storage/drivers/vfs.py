"""Snapshots as full copies: works on every file system, shares nothing but reflinks."""

from __future__ import annotations

import os
from pathlib import Path

from sampan.linux import trees
from sampan.linux.filesystems import filesystem_name
from sampan.storage.archives.tar_writer import TarWriter
from sampan.storage.drivers.driver import Folders
from sampan.storage.idmapped import bound
from sampan.storage.layers.diffing import tree_changes, tree_diff, tree_usage
from sampan.storage.layers.rules import Rules
from sampan.storage.mounter import Change
from sampan.storage.projects import Projects


class VfsDriver:
    """Snapshots as full copies."""

    name = "vfs"
    copies = True

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._projects = Projects(root, self.name)

    @property
    def sizes_problem(self) -> str:
        """Say why a snapshot's size cannot be limited."""
        return self._projects.problem

    def status(self) -> list[tuple[str, str]]:
        """Return what `docker info` shows."""
        return [("Backing Filesystem", filesystem_name(self._root)), ("Mounts", "detached")]

    def create(self, folder: Path, parents: tuple[Path, ...], size: int | None = None) -> None:
        """Copy the parent; what is copied counts, too."""
        self._projects.limit(folder, size)
        tree = folder / "fs"
        tree.mkdir()
        os.chmod(tree, 0o755)  # noqa: S103 - the root directory of a container
        if not parents:
            return
        source = self.tree(parents[0])
        try:
            target = self.tree(folder)
            try:
                trees.copy(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def tree(self, folder: Path) -> int:
        """Open the copy."""
        return os.open(folder / "fs", trees.DIRECTORY)

    def rules(self, parents: tuple[Path, ...]) -> Rules:
        """Whiteouts remove what the copy has."""
        return Rules(whiteouts="delete") if parents else Rules(whiteouts="drop", fresh=True)

    def mount(self, folders: Folders, *, committed: bool, read_only: bool, user: int = -1) -> int:
        """Return a detached bind mount."""
        tree = self.tree(folders.own)
        return bound(tree, folders.own, user, read_only=committed or read_only)

    def discard(self, folder: Path) -> None:
        """Take the limit away."""
        self._projects.release(folder)

    def usage(self, folders: Folders) -> tuple[int, int]:
        """Measure what differs from the original, not the whole copy, as Docker does."""
        new, old = self._pair(folders)
        try:
            return tree_usage(new, old)
        finally:
            _close(new, old)

    def changes(self, folders: Folders) -> list[Change]:
        """Compare the copy with the original."""
        new, old = self._pair(folders)
        try:
            return tree_changes(new, old)
        finally:
            _close(new, old)

    def diff(self, folders: Folders, writer: TarWriter) -> None:
        """Write what differs from the original."""
        new, old = self._pair(folders)
        try:
            tree_diff(new, old, writer)
        finally:
            _close(new, old)

    def _pair(self, folders: Folders) -> tuple[int, int | None]:
        old = self.tree(folders.parents[0]) if folders.parents else None
        return self.tree(folders.own), old

    def graph(self, folders: Folders, *, committed: bool) -> dict[str, str]:
        """Return the directory."""
        return {"Dir": str(folders.own / "fs")}


def _close(new: int, old: int | None) -> None:
    os.close(new)
    if old is not None:
        os.close(old)
