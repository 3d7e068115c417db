"""The driver `filesystem`: files below a folder of this machine."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

TEMPORARY = ".tmp"
TRASH = "sampan/trash"  # below the root, outside of the layout: docker-registry never looks there


class FilesystemDriver:
    """Keeps a registry below `root`, which is made if it is missing."""

    def __init__(self, root: str) -> None:
        self.root = root
        shutil.rmtree(self._at(TRASH), ignore_errors=True)
        os.makedirs(self._at(TRASH), exist_ok=True)

    def _at(self, path: str) -> str:
        return os.path.join(self.root, path)

    def read(self, path: str) -> bytes:
        with open(self._at(path), "rb") as file:
            return file.read()

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        with ExitStack() as undo:
            staged: list[tuple[str, str]] = []
            folders: dict[str, None] = {}
            for path, content in files:
                target = self._at(path)
                folders |= dict.fromkeys(self._make(os.path.dirname(target)))
                temporary = f"{target}.{secrets.token_hex(8)}{TEMPORARY}"
                undo.callback(_remove, temporary)
                with open(temporary, "xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                staged.append((temporary, target))
            for temporary, target in staged:
                os.rename(temporary, target)
            for folder in folders:
                _sync_folder(folder)

    def _make(self, folder: str) -> list[str]:
        """Make a folder; return those that have a new entry, or will have, innermost first."""
        changed = [folder]
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:
            return changed
        except FileNotFoundError:
            changed += self._make(os.path.dirname(folder))
            try:
                os.mkdir(folder, 0o755)
            except FileExistsError:
                pass  # another thread was faster
            return changed
        return [*changed, os.path.dirname(folder)]

    def size(self, path: str) -> int:
        return os.stat(self._at(path)).st_size

    def modified(self, path: str) -> float:
        return os.stat(self._at(path)).st_mtime

    def list(self, path: str) -> list[str]:
        try:
            return sorted(n for n in os.listdir(self._at(path)) if not n.endswith(TEMPORARY))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def open(self, path: str) -> FileContent:
        return FileContent(self._at(path))

    def append(self, path: str, offset: int) -> FileWriter:
        target = self._at(path)
        self._make(os.path.dirname(target))
        return FileWriter(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644), offset)

    def move(self, source: str, target: str) -> None:
        new = self._at(target)
        folders = self._make(os.path.dirname(new))
        os.rename(self._at(source), new)
        for folder in folders:
            _sync_folder(folder)

    def delete(self, path: str) -> None:
        target = self._at(path)
        try:
            os.unlink(target)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            # Renamed first: a folder is gone for every reader at once, or still whole.
            gone = self._at(f"{TRASH}/{secrets.token_hex(8)}")
            try:
                os.rename(target, gone)
            except FileNotFoundError:
                return
            except OSError:  # EXDEV: a part of the layout is mounted from elsewhere
                gone = target
            shutil.rmtree(gone)

    def check(self) -> None:
        os.stat(self.root)

    def close(self) -> None:
        """Nothing is held."""


class FileContent:
    """An open file."""

    def __init__(self, path: str) -> None:
        self.local = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, offset)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileWriter:
    """A file that grows."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, offset)
            os.lseek(descriptor, offset, os.SEEK_SET)
        except OSError:
            self.close()
            raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
