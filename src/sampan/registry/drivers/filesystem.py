"""The driver `filesystem`: files below a folder of this machine."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self

from sampan.linux import aio
from sampan.registry.drivers.driver import Change, Closing, File, read_or_none, size_or_none
from sampan.registry.drivers.new_folders import NewFolders
from sampan.registry.drivers.syncing import sync_and_close, sync_folders

log = logging.getLogger(__name__)
TEMPORARY = ".tmp"
READ = 64 << 10  # bytes of a small file at once
TRASH = "sampan/trash"  # below the root, outside of the layout: docker-registry never looks there


class FilesystemDriver:
    """Keeps a registry below `root`, which is made if it is missing."""

    moves_cheaply = True

    def __init__(self, root: str, alone: bool = True) -> None:
        """`alone`: no other process works there, so what is on its way out can be removed."""
        self.root = root
        self._new = NewFolders()
        if alone:
            shutil.rmtree(self._at(TRASH), ignore_errors=True)
        os.makedirs(self._at(TRASH), exist_ok=True)

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def read(self, path: str) -> bytes:
        # Not open(): a start reads the link of every tag, and this takes half the time.
        # A pipe in the place of a file, which only somebody else can have made, must not keep us.
        descriptor = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            pieces = []
            while piece := os.read(descriptor, READ):
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            os.close(descriptor)

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        return (read_or_none(self, path) for path in paths)

    def survey(self, path: str) -> Self:
        return self

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        for path, content in files:
            target = self._at(path)
            self._new.make(os.path.dirname(target))
            temporary = _temporary(target)
            try:
                os.close(_create(temporary, content))
                os.rename(temporary, target)
            except OSError:
                _remove(temporary)
                raise

    def stage(self, files: Sequence[File]) -> StagedFiles:
        staged = StagedFiles(self._new.make, self._settle)
        try:
            for file in files:
                staged.add(self._at(file.path), file)
            staged.sync()
        except BaseException:
            staged.close()
            raise
        return staged

    def _settle(self, moved: Sequence[str], folders: Iterable[str] = ()) -> None:
        """Sync the folders that may have new entries where files were moved there, and others."""
        found = dict.fromkeys(folders)
        for path in moved:
            folder = self._at(path)
            for _ in range(3):  # a blob's own folder, and those that it may be the first in
                folder = os.path.dirname(folder)
                found[folder] = None
            found |= dict.fromkeys(self._new.unsynced(folder))
        lasting = self._new.within(found)
        sync_folders(found)
        self._new.synced(lasting)

    def size(self, path: str) -> int:
        return os.stat(self._at(path)).st_size

    def grown(self, path: str, note: str) -> int:
        size = size_or_none(self, path)
        if size is None:
            self.size(note)  # raises FileNotFoundError
        return size or 0

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        return [size_or_none(self, path) for path in paths]

    def modified(self, path: str) -> float:
        return os.stat(self._at(path)).st_mtime

    def list(self, path: str) -> list[str]:
        folder = self._at(path)
        try:
            if os.path.islink(folder) and self._leads_back(path):
                return []
            return sorted(n for n in os.listdir(folder) if not n.endswith(TEMPORARY))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if error.errno == errno.ELOOP:
                return []
            raise

    def _leads_back(self, path: str) -> bool:
        """Tell whether a folder is a link to one that it is in, under whatever name.

        Else a few such links would have more names below them than anybody can list.
        """
        real, parts = os.path.realpath(self._at(path)), path.split("/")
        above = (self._at("/".join(parts[:count])) for count in range(len(parts)))
        return any(os.path.commonpath([real, os.path.realpath(one)]) == real for one in above)

    def open(self, path: str) -> FileContent:
        return FileContent(self._at(path))

    def append(self, path: str, offset: int) -> FileWriter:
        target = self._at(path)
        self._new.make(os.path.dirname(target))
        return FileWriter(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644), offset)

    def url(self, path: str, method: str) -> str:
        return ""

    def move(self, source: str, target: str, version: str = "") -> FileMove:
        return FileMove(self._at(source), self._at(target), self._new.make)

    def settle(self, paths: Sequence[str]) -> None:
        self._settle(paths)

    def delete(self, *groups: Sequence[str], within: Change) -> None:
        within.confirm()
        moved: dict[str, str] = {}
        rest = iter(groups)
        for group in rest:
            moved |= self._put_away(group)
            if any(target == gone for target, gone in moved.items()):
                break  # something is in its place for now, so what it may lead to is, too
        try:
            within.confirm()  # again: we may have been stopped before the last was renamed
        except BaseException:
            _bring_back(moved)
            raise
        _free(moved.values())
        if later := list(rest):
            self.delete(*later, within=within)

    def _put_away(self, paths: Sequence[str]) -> dict[str, str]:
        """Rename what is to go; return where all that was there is now.

        A folder is gone for every reader at once, or still whole. What is mounted from elsewhere
        stays where it is.
        """
        moved = {}
        for path in paths:
            target, gone = self._at(path), self._at(f"{TRASH}/{secrets.token_hex(8)}")
            self._new.removed(target)
            try:
                os.rename(target, gone)
            except OSError:
                if not os.path.lexists(target):
                    continue
                gone = target
            moved[target] = gone
        return moved

    def sweep(self, before: float) -> None:
        """Remove what a kill has left of a removal, where others work that nobody starts alone."""
        for name in self.list(TRASH):
            gone = self._at(f"{TRASH}/{name}")
            try:
                if os.stat(gone, follow_symlinks=False).st_ctime < before:
                    _remove_all(gone)
            except FileNotFoundError:  # it is on its way
                continue

    def check(self) -> None:
        os.stat(self.root)

    def close(self) -> None:
        """Nothing is held."""


class StagedFiles(Closing):
    """Files under temporary names beside their own."""

    def __init__(
        self,
        make: Callable[[str], Iterable[str]],
        settle: Callable[[Sequence[str], Iterable[str]], None],
    ) -> None:
        self._waiting: list[tuple[str, str, File]] = []
        self._unsynced: list[int] = []
        self._make, self._settle = make, settle
        self._folders: dict[str, None] = {}

    def add(self, target: str, file: File) -> None:
        """Write one file."""
        self._folders |= dict.fromkeys(self._make(os.path.dirname(target)))
        temporary = _temporary(target)
        self._waiting.append((temporary, target, file))
        descriptor = _create(temporary, file.content)
        if file.told:
            os.close(descriptor)
        else:
            self._unsynced.append(descriptor)

    def sync(self) -> None:
        """Make the contents outlast a power failure, but for those that their paths tell."""
        sync_and_close(self._unsynced)

    def publish(self) -> None:
        while self._waiting:
            temporary, target, file = self._waiting[0]
            try:
                os.rename(temporary, target)
            except FileNotFoundError:  # a collection has removed the folder meanwhile
                self._folders |= dict.fromkeys(self._make(os.path.dirname(target)))
                sync_and_close([_create(temporary, file.content)])
                os.rename(temporary, target)
            del self._waiting[0]

    def settle(self, moved: Sequence[str] = ()) -> None:
        self._settle(moved, self._folders)

    def close(self) -> None:
        while self._unsynced:
            os.close(self._unsynced.pop())
        for temporary, _, _ in self._waiting:
            _remove(temporary)


class FileMove(Closing):
    """A rename that waits."""

    def __init__(self, source: str, target: str, make: Callable[[str], object]) -> None:
        self._source, self._target, self._make = source, target, make

    def prepare(self) -> None:
        """A rename takes no time."""

    def publish(self) -> None:
        self._make(os.path.dirname(self._target))
        os.rename(self._source, self._target)


class FileContent(Closing):
    """An open file."""

    def __init__(self, path: str) -> None:
        self.local = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self.descriptor, count, offset)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class FileWriter(Closing):
    """A file that grows."""

    version = ""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, offset)
            os.lseek(descriptor, offset, os.SEEK_SET)
        except OSError:
            self.close()
            raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        _write(self._descriptor, data)

    def sync(self) -> None:
        aio.fsync([self._descriptor])

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _temporary(target: str) -> str:
    return f"{target}.{secrets.token_hex(8)}{TEMPORARY}"


def _remove_all(path: str) -> None:
    """Remove a file, or a folder with all that is in it."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(path)


def _free(paths: Iterable[str]) -> None:
    """Remove files and folders, each of them if that can be; raise the first failure."""
    failures = []
    for path in paths:
        try:
            _remove_all(path)
        except OSError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _bring_back(moved: Mapping[str, str]) -> None:
    """Give what was renamed its names again; what others have put there meanwhile stays."""
    for target, gone in reversed([*moved.items()]):
        if gone == target:
            continue
        try:
            if os.path.isdir(gone) or not os.path.exists(target):
                os.rename(gone, target)  # not onto a folder that has something in it
                continue
        except OSError as error:
            log.warning("%s is as others have made it meanwhile: %s", target, error)
        _remove_all(gone)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _create(path: str, content: bytes) -> int:
    """Write a new file, and leave it open."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _write(descriptor, content)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
