"""Snapshots on disk: layers and the writable file systems of containers, driver by driver.

`<root>/snapshots/<driver>/<name>/` holds one snapshot: `snapshot.json` and what the driver keeps.
A snapshot is made under another name and renamed when it is complete, so whatever has its name is
whole; what is removed is renamed into `.trash` first. `.init/<name of a layer>/` holds the mount
points that all containers on that layer share, between the layer and each of them. A layer is
staged under a name of its own first; `commit` renames it, and `committed.json` is valid from then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.linux import trees
from sampan.linux.filesystems import spread_children
from sampan.linux.libc import check, libc
from sampan.storage.drivers.driver import Folders, SnapshotDriver
from sampan.storage.mount_points import make_mount_points
from sampan.storage.mounter import DiskReport, Kind, SnapshotInfo

MAX_LAYERS: Final = 127
_KEY: Final = re.compile(r"sha256:[0-9a-f]{64}|(?!sha256-)[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_TRASH: Final = ".trash"
_NEW: Final = ".new"
_INIT: Final = ".init"
_LOCK: Final = ".lock"
_STATE: Final = "snapshot.json"
_COMMITTED: Final = "committed.json"
_OF_NOTHING: Final = "scratch"  # in _INIT: the mount points for images without layers


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What `snapshot.json` says."""

    key: str
    parent: str | None
    kind: Kind
    diff_id: str = ""
    plain_size: int = 0
    size: int = 0
    entries: int = 0
    bound: bool = False  # of a staged layer: it can be committed on `parent` only
    init: bool = False  # it lies on its parent's shared mount points


class SnapshotStore:
    """The snapshots of one driver, by key. May be used from several threads."""

    def __init__(self, root: Path, driver: SnapshotDriver) -> None:
        self.driver = driver
        self.folder = root / "snapshots" / driver.name
        self._known: dict[str, Snapshot] = {}
        for name in (_TRASH, _NEW, _INIT):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        os.chmod(root / "snapshots", 0o700)
        spread_children(self.folder / _NEW)
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
        state = folder / _STATE
        if folder.name.startswith("sha256-") and (folder / _COMMITTED).exists():
            state = folder / _COMMITTED
        snapshot = msgspec.json.decode(state.read_bytes(), type=Snapshot)
        if snapshot.kind != "staged":
            self._known[snapshot.key] = snapshot  # it never changes while it has its name
        return snapshot

    def get(self, key: str) -> Snapshot:
        """Return a snapshot; NotFound if there is none."""
        snapshot = self.find(key)
        if snapshot is None:
            raise NotFound(f"snapshot {key} does not exist")
        return snapshot

    def folders(self, snapshot: Snapshot) -> Folders:
        """Return where a snapshot and its parents lie; of a staged one nothing can be used."""
        if snapshot.kind == "staged":
            raise InvalidArgument(f"snapshot {snapshot.key} is not committed")
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
                raise InvalidArgument(
                    f"snapshot {parent} is writable or not committed: nothing can be put on it"
                )
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
                found.append(_info(snapshot))
        return found

    def disk_usage(self) -> DiskReport:
        """Return how much everything in the folder of the driver occupies."""
        report = DiskReport(snapshots={}, others={})
        keys = {_file_name(info.key): info.key for info in self.all()}
        for name in os.listdir(self.folder):
            size = 0
            with suppress(FileNotFoundError):
                size = _allocated(self.folder / name)
            if key := keys.get(name):
                report.snapshots[key] = size
            else:
                report.others[name] = size
        report.others["."] = self.folder.stat().st_blocks * 512
        for other in self.folder.parent.iterdir():  # what other drivers left
            if other != self.folder:
                report.others[f"../{other.name}"] = _allocated(other)
        return report

    def path(self, snapshot: Snapshot) -> Path:
        """Return the folder of a snapshot, whatever its kind."""
        return self._path(snapshot.key)

    # --- changing --------------------------------------------------------------------------

    def begin(self, parents: tuple[Path, ...], size: int | None = None) -> Path:
        """Return a new folder that the driver has filled; end it with `finish` or `abandon`."""
        folder = self._unique(_NEW)
        folder.mkdir(mode=0o700)
        try:
            self.driver.create(folder, parents, size)
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
        (folder / _STATE).write_bytes(msgspec.json.encode(snapshot))
        if durable:
            sync_filesystem(folder)
        with self._exclusive():
            self._check_parent(snapshot.parent)
            try:
                os.rename(folder, self._path(snapshot.key))
            except OSError:
                if self._path(snapshot.key).exists():
                    return False
                raise
        if durable:
            sync_folder(self.folder)
        return True

    def _check_parent(self, parent: str | None) -> None:
        """Raise NotFound if a parent has been removed meanwhile."""
        if parent is not None:
            self._known.pop(parent, None)
            self.get(parent)

    def bind(self, staged: Snapshot) -> None:
        """Write what has changed about a staged snapshot, durably."""
        _replace(self._path(staged.key) / _STATE, msgspec.json.encode(staged))

    def commit(self, staged: Snapshot, committed: Snapshot) -> bool:
        """Make a staged layer a committed one, durably; False if somebody was faster."""
        folder = self._path(staged.key)
        try:
            _replace(folder / _COMMITTED, msgspec.json.encode(committed))
            with self._exclusive():
                self._check_parent(committed.parent)
                os.rename(folder, self._path(committed.key))
        except FileNotFoundError as error:
            raise NotFound(f"snapshot {staged.key} does not exist") from error
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return False
            raise
        sync_folder(self.folder)
        return True

    def abandon(self, folder: Path) -> None:
        """Delete a folder that never became a snapshot, before the caller is told why."""
        self.driver.discard(folder)
        parent = os.open(folder.parent, trees.DIRECTORY)
        try:
            trees.remove(parent, os.fsencode(folder.name))
        finally:
            os.close(parent)

    def remove(self, key: str) -> bool:
        """Put a snapshot into the trash; False if there is none, Conflict while it has children."""
        with self._exclusive():
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
        """Delete what was removed, and what processes left that ended in the middle; slow."""
        for left in (self.folder / _NEW).iterdir():
            if not _is_alive(left.name):
                self._discard(left)
        trash = os.open(self.folder / _TRASH, trees.DIRECTORY)
        try:
            for name in os.listdir(trash):
                self.driver.discard(self.folder / _TRASH / name)
                trees.remove(trash, os.fsencode(name))
        finally:
            os.close(trash)

    def has_trash(self) -> bool:
        """Tell whether something waits for `empty_trash`."""
        with os.scandir(self.folder / _TRASH) as entries:
            return next(entries, None) is not None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep out other threads, and other processes that a helper forked."""
        fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

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


def _is_alive(name: str) -> bool:
    """Tell whether the process still runs that works in a folder of `_NEW`; see `_unique`."""
    pid = name.partition("-")[0]
    return not pid.isdecimal() or Path(f"/proc/{pid}").exists()


def _file_name(key: str) -> str:
    return key.replace(":", "-")


def _info(snapshot: Snapshot) -> SnapshotInfo:
    return SnapshotInfo(
        key=snapshot.key,
        parent=snapshot.parent,
        kind=snapshot.kind,
        diff_id=snapshot.diff_id,
        plain_size=snapshot.plain_size,
        size=snapshot.size,
        entries=snapshot.entries,
    )


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole and durably, or leave it as it is."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
    sync_folder(path.parent)


def _allocated(path: Path) -> int:
    try:
        fd = os.open(path, trees.DIRECTORY)
    except NotADirectoryError:
        return path.lstat().st_blocks * 512
    try:
        return trees.allocated(fd)
    finally:
        os.close(fd)


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
