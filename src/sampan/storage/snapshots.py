"""Snapshots on disk: layers and the writable file systems of containers, driver by driver.

`<root>/snapshots/<driver>/<name>/` holds one snapshot: `snapshot.json` and what the driver keeps.
A snapshot is made under another name and renamed when it is complete, so whatever has its name is
whole; what is removed is renamed into `.trash` first. `.init/<name of a layer>/` holds the mount
points that all containers on that layer share, between the layer and each of them.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.linux.libc import check, libc
from sampan.storage import trees
from sampan.storage.applying import Rules
from sampan.storage.mount_points import make_mount_points
from sampan.storage.mounter import Change, SnapshotInfo
from sampan.storage.tar_writer import TarWriter

MAX_LAYERS: Final = 127
_KEY: Final = re.compile(r"sha256:[0-9a-f]{64}|[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_TRASH: Final = ".trash"
_NEW: Final = ".new"
_INIT: Final = ".init"
_OF_NOTHING: Final = "scratch"  # in _INIT: the mount points for images without layers


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What `snapshot.json` says."""

    key: str
    parent: str | None
    kind: Literal["committed", "active"]
    diff_id: str = ""
    size: int = 0
    entries: int = 0
    init: bool = False  # it lies on its parent's shared mount points


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a snapshot and of all its parents, nearest parent first."""

    own: Path
    parents: tuple[Path, ...]


class SnapshotDriver(Protocol):
    """How snapshots share what they have in common, and how they become mounts."""

    name: str
    copies: bool  # a snapshot holds the content of its parents, too

    def create(self, folder: Path, parents: tuple[Path, ...]) -> None:
        """Fill the new folder of a snapshot: of a layer to be applied, or a writable one."""

    def tree(self, folder: Path) -> int:
        """Open the directory that a layer is applied to."""

    def rules(self, parents: tuple[Path, ...]) -> Rules:
        """Return how a layer is applied."""

    def mount(self, folders: Folders, *, committed: bool, read_only: bool) -> int:
        """Return a detached mount of a snapshot."""

    def usage(self, folder: Path) -> tuple[int, int]:
        """Return (bytes, inodes) of what the snapshot itself holds."""

    def changes(self, folders: Folders) -> list[Change]:
        """Return what an active snapshot changed."""

    def diff(self, folders: Folders, writer: TarWriter) -> None:
        """Write what an active snapshot changed as a layer."""

    def graph(self, folders: Folders, *, committed: bool) -> dict[str, str]:
        """Return what `inspect` shows."""


class SnapshotStore:
    """The snapshots of one driver, by key. May be used from several threads."""

    def __init__(self, root: Path, driver: SnapshotDriver) -> None:
        self.driver = driver
        self.folder = root / "snapshots" / driver.name
        self._known: dict[str, Snapshot] = {}
        self._lock = threading.Lock()
        for name in (_TRASH, _NEW, _INIT):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        os.chmod(root / "snapshots", 0o700)
        for left in (self.folder / _NEW).iterdir():
            self._discard(left)
        for init in (self.folder / _INIT).iterdir():
            if init.name != _OF_NOTHING and not (self.folder / init.name).exists():
                self._discard(init)

    # --- reading ---------------------------------------------------------------------------

    def find(self, key: str) -> Snapshot | None:
        """Return a snapshot, if there is one."""
        if found := self._known.get(key):
            return found
        try:
            return self._read(self._path(key))
        except FileNotFoundError:
            return None

    def _read(self, folder: Path) -> Snapshot:
        snapshot = msgspec.json.decode((folder / "snapshot.json").read_bytes(), type=Snapshot)
        self._known[snapshot.key] = snapshot  # it never changes while it has its name
        return snapshot

    def get(self, key: str) -> Snapshot:
        """Return a snapshot; NotFound if there is none."""
        snapshot = self.find(key)
        if snapshot is None:
            raise NotFound(f"snapshot {key} does not exist")
        return snapshot

    def folders(self, snapshot: Snapshot) -> Folders:
        """Return where a snapshot and its parents lie."""
        chain = self.chain(snapshot.parent)
        if snapshot.init:
            chain = self._init_path(snapshot.parent), *chain
        return Folders(self._path(snapshot.key), chain)

    def chain(self, parent: str | None) -> tuple[Path, ...]:
        """Return the folders of a parent and all above it; NotFound if one is missing."""
        folders = []
        while parent is not None:
            folders.append(self._path(parent))
            snapshot = self.get(parent)
            if snapshot.kind != "committed":
                raise InvalidArgument(f"snapshot {parent} is writable: nothing can be put on it")
            parent = snapshot.parent
        if len(folders) > MAX_LAYERS:
            raise InvalidArgument("max depth exceeded")
        return tuple(folders)

    def all(self) -> list[SnapshotInfo]:
        """Return every snapshot."""
        by_name = {_file_name(key): snapshot for key, snapshot in list(self._known.items())}
        found = []
        for name in os.listdir(self.folder):
            if name.startswith("."):
                continue
            with suppress(FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
                snapshot = by_name.get(name) or self._read(self.folder / name)
                found.append(
                    SnapshotInfo(key=snapshot.key, parent=snapshot.parent, kind=snapshot.kind)
                )
        return found

    # --- changing --------------------------------------------------------------------------

    def begin(self, parents: tuple[Path, ...]) -> Path:
        """Return a new folder that the driver has filled; end it with `finish` or `abandon`."""
        folder = self._unique(_NEW)
        folder.mkdir(mode=0o700)
        try:
            self.driver.create(folder, parents)
        except BaseException:
            self.abandon(folder)
            raise
        return folder

    def init(self, parent: str | None) -> tuple[Path, ...]:
        """Return what a container on `parent` lies on: shared mount points, and the layers.

        The mount points are made when they are first asked for.
        """
        path, parents = self._init_path(parent), self.chain(parent)
        if path.exists():
            return path, *parents
        folder = self.begin(parents)
        try:
            tree = self.driver.mount(Folders(folder, parents), committed=False, read_only=False)
            try:
                make_mount_points(tree)
            finally:
                os.close(tree)
            if self.driver.copies:  # without, there are only names, and those have an order
                sync_filesystem(folder)
            os.rename(folder, path)
        except BaseException as error:
            self.abandon(folder)
            if not isinstance(error, OSError) or error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise  # else somebody was faster
        return path, *parents

    def finish(self, folder: Path, snapshot: Snapshot, *, durable: bool) -> bool:
        """Give a folder its name; False if a snapshot has that name already.

        With `durable`, its whole content is on disk before it has the name.
        """
        (folder / "snapshot.json").write_bytes(msgspec.json.encode(snapshot))
        if durable:
            sync_filesystem(folder)
        with self._lock:
            if snapshot.parent is not None:
                self._known.pop(snapshot.parent, None)
                self.get(snapshot.parent)  # it may have been removed meanwhile
            try:
                os.rename(folder, self._path(snapshot.key))
            except OSError:
                if self._path(snapshot.key).exists():
                    return False
                raise
        if durable:
            sync_folder(self.folder)
        return True

    def abandon(self, folder: Path) -> None:
        """Delete a folder that never became a snapshot, before the caller is told why."""
        parent = os.open(folder.parent, trees.DIRECTORY)
        try:
            trees.remove(parent, os.fsencode(folder.name))
        finally:
            os.close(parent)

    def remove(self, key: str) -> bool:
        """Put a snapshot into the trash; False if there is none, Conflict while it has children."""
        with self._lock:
            snapshot = self.find(key)
            if snapshot is None:
                return False
            if snapshot.kind == "committed":
                children = [info.key for info in self.all() if info.parent == key]
                if children:
                    raise Conflict(f"snapshot {key} has children: {children[0]}")
                self._discard(self._init_path(key))
            self._known.pop(key, None)
            self._discard(self._path(key))
        return True

    def empty_trash(self) -> None:
        """Delete what was removed; slow."""
        trash = os.open(self.folder / _TRASH, trees.DIRECTORY)
        try:
            for name in os.listdir(trash):
                trees.remove(trash, os.fsencode(name))
        finally:
            os.close(trash)

    def has_trash(self) -> bool:
        """Tell whether something waits for `empty_trash`."""
        with os.scandir(self.folder / _TRASH) as entries:
            return next(entries, None) is not None

    def _discard(self, folder: Path) -> None:
        with suppress(FileNotFoundError):
            os.rename(folder, self._unique(_TRASH))

    def _unique(self, below: str) -> Path:
        return (
            self.folder / below / f"{os.getpid()}-{threading.get_ident():x}-{os.urandom(6).hex()}"
        )

    def _init_path(self, parent: str | None) -> Path:
        name = _OF_NOTHING if parent is None else self._path(parent).name
        return self.folder / _INIT / name

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise InvalidArgument(f"invalid snapshot key {key[:100]!r}")
        return self.folder / _file_name(key)


def _file_name(key: str) -> str:
    return key.replace(":", "-")


def sync_filesystem(folder: Path) -> None:
    """Write everything that waits for the file system of `folder` to disk: one syncfs(2)."""

    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check(libc.syncfs(fd), folder)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
