"""The Mounter of this machine: runs in the storage helper, or inside a privileged library user."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sampan.errors import Conflict, InvalidArgument, NotFound, Unavailable
from sampan.linux import users
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.rpc import Fd
from sampan.storage.archives.compression import plain_chunks, reader_of
from sampan.storage.archives.packing import ABSENT, Packer, clean, stat_path
from sampan.storage.archives.refusals import refusals_of
from sampan.storage.archives.repacking import Repacker
from sampan.storage.archives.tar_reader import TarReader
from sampan.storage.archives.tar_writer import TarWriter
from sampan.storage.choosing import holding, open_driver
from sampan.storage.entering import as_root_of
from sampan.storage.fullness import told_when_full
from sampan.storage.inside import evaluate
from sampan.storage.layers.applying import Applier
from sampan.storage.layers.rules import Rules
from sampan.storage.layers.staging import Staging
from sampan.storage.mounter import (
    Change,
    DiskReport,
    DriverInfo,
    ExtractOptions,
    PathStat,
    SnapshotInfo,
    Unpacked,
    Usage,
)
from sampan.storage.snapshots import Snapshot, SnapshotStore
from sampan.storage.trash import Collector


def forking(driver: str) -> tuple[str, ...]:
    """Return the methods that take long: the helper carries each call of them out in a child."""
    long = (
        *("unpack", "commit", "capture", "pack_layer", "verify", "disk_usage"),
        *("changes", "diff", "pack", "extract", "usage"),
    )
    more = {"vfs": ("prepare",), "fuse-overlayfs": ("prepare", "mount", "stat")}
    return *long, *more.get(driver, ())


class LinuxMounter:
    """Snapshots below `root`, by the driver named `driver`; without one, see `choosing`.

    With `forks` the trash is emptied by a child process instead of a thread: for a helper, which
    has one thread only.
    """

    def __init__(self, root: Path, driver: str = "", *, forks: bool = False) -> None:
        self._data_root, self._driver = root, open_driver(root, driver)
        self._store = SnapshotStore(root, self._driver)
        self._staging = Staging(self._store)
        self._trash = Collector(self._store.empty_trash, forks=forks)
        if self._store.has_trash():
            self._trash.wake()

    def close(self) -> None:
        """Finish the removals that were begun."""
        self._trash.close()

    def driver(self) -> DriverInfo:
        """Return which driver this is."""
        return DriverInfo(
            name=self._driver.name,
            status=self._driver.status(),
            kept=holding(self._data_root / "snapshots"),
            sizes_problem=self._driver.sizes_problem,
        )

    # --- snapshots -------------------------------------------------------------------------

    def layers_stand_alone(self) -> bool:
        """Tell whether layers are unpacked without their parents."""
        return not self._driver.copies

    def unpack(self, archive: Fd, key: str, parent: str | None = None) -> Unpacked:
        """Unpack a layer as the staged snapshot `key`; see Mounter."""
        return self._staging.unpack(archive.number, key, parent)

    def commit(self, key: str, chain_id: str, parent: str | None) -> None:
        """Make a staged layer the committed snapshot `chain_id`; see Mounter."""
        self._staging.commit(key, chain_id, parent)
        if self._store.has_trash():
            self._trash.wake()

    def capture(self, key: str, staged: str) -> Unpacked:
        """Make what an active snapshot has changed a staged layer; see Mounter."""
        return self._staging.capture(key, staged)

    def pack_layer(self, chain_id: str, into: Fd) -> None:
        """Write a layer as the tar that it came from; see Mounter."""
        with self._repacker(chain_id) as repacker, _readers_there():
            repacker.pack(lambda data: _write(into, data))

    def verify(self, chain_id: str) -> list[str]:
        """Return what is wrong with a layer."""
        if self._store.find(chain_id) is None:
            return [f"snapshot {chain_id} does not exist"]
        with self._repacker(chain_id) as repacker:
            return repacker.verify(alone=self.layers_stand_alone())

    @contextmanager
    def _repacker(self, chain_id: str) -> Iterator[Repacker]:
        snapshot = self._store.get(chain_id)
        if not snapshot.diff_id:
            raise InvalidArgument(f"snapshot {chain_id} is no layer")
        folder = self._store.path(snapshot)
        tree = self._driver.tree(folder)
        try:
            yield Repacker(snapshot, folder, tree)
        finally:
            os.close(tree)

    def disk_usage(self) -> DiskReport:
        """Return how much every snapshot, and all else, occupies."""
        return self._store.disk_usage()

    def prepare(self, key: str, parent: str | None, size: int | None = None) -> None:
        """Make a writable snapshot on the mount points that its parent shares; see Mounter."""
        if self._store.find(key):
            raise Conflict(f"snapshot {key} exists already")
        if size is not None and self._driver.sizes_problem:
            raise InvalidArgument(self._driver.sizes_problem)
        snapshot = Snapshot(key=key, parent=parent, kind="active", init=True)
        with told_when_full():
            folder = self._store.begin(self._store.init(parent), size)
            try:
                if not self._store.finish(folder, snapshot, durable=False):
                    raise Conflict(f"snapshot {key} exists already")
            except BaseException:
                self._store.abandon(folder)
                raise

    def mount(self, key: str, read_only: bool = False, user: Fd | None = None) -> Fd:
        """Return a detached mount of a snapshot."""
        return Fd(self._mount(key, read_only=read_only, user=user.number if user else -1))

    def _mount(self, key: str, *, read_only: bool, user: int = -1) -> int:
        snapshot = self._store.get(key)
        folders = self._store.folders(snapshot)
        committed = snapshot.kind == "committed"
        return self._driver.mount(folders, committed=committed, read_only=read_only, user=user)

    def remove(self, key: str) -> None:
        """Remove a snapshot; its files go in the background."""
        if self._store.remove(key):
            self._trash.wake()

    def snapshots(self) -> list[SnapshotInfo]:
        """Return all snapshots."""
        return self._store.all()

    def usage(self, key: str) -> Usage:
        """Return the disk use of one snapshot."""
        snapshot = self._store.get(key)
        size, inodes = self._driver.usage(self._store.folders(snapshot))
        return Usage(size=size, inodes=inodes)

    def changes(self, key: str) -> list[Change]:
        """Return what an active snapshot changed."""
        return self._driver.changes(self._store.folders(self._store.get(key)))

    def diff(self, key: str, into: Fd) -> None:
        """Write what an active snapshot changed as a layer."""
        folders = self._store.folders(self._store.get(key))
        with _writer(into) as writer:
            self._driver.diff(folders, writer)

    def graph(self, key: str) -> dict[str, str]:
        """Return the driver's data for `inspect`."""
        snapshot = self._store.get(key)
        folders = self._store.folders(snapshot)
        return self._driver.graph(folders, committed=snapshot.kind == "committed")

    # --- copies in and out -----------------------------------------------------------------

    def stat(self, key: str, path: str, root: Fd | None = None, user: Fd | None = None) -> PathStat:
        """Return what `path` is."""
        if user is not None:
            return as_root_of(user, partial(self.stat, key, path, root), PathStat)
        with refusals_of(path), self._root(key, root, read_only=True) as fd:
            return stat_path(fd, _encoded(path))

    def pack(
        self, key: str, path: str, into: Fd, root: Fd | None = None, user: Fd | None = None
    ) -> None:
        """Write `path` as a tar."""
        if user is not None:
            as_root_of(user, partial(self.pack, key, path, into, root), type(None))
            return
        with (
            refusals_of(path),
            self._root(key, root, read_only=True) as fd,
            _writer(into) as writer,
        ):
            Packer(writer).pack(fd, _encoded(path))

    def extract(
        self,
        key: str,
        path: str,
        archive: Fd,
        options: ExtractOptions,
        root: Fd | None = None,
        user: Fd | None = None,
    ) -> None:
        """Unpack a tar into the folder `path`."""
        if user is not None:
            work = partial(self.extract, key, path, archive, options, root)
            as_root_of(user, work, type(None))
            return
        chunks = plain_chunks(reader_of(archive.number))
        with refusals_of(path), self._root(key, root, read_only=False) as fd:
            where = _folder(fd, path)
            owner = None
            if options.copy_uid_gid and options.user:
                identity = users.identify(fd, options.user)
                owner = identity.uid, identity.gid
            rules = Rules(
                whiteouts="plain", owner=owner, strict_kinds=options.no_overwrite_dir_non_dir
            )
            with told_when_full():
                Applier(fd, rules, base=where).apply(TarReader(chunks))

    @contextmanager
    def _root(self, key: str, root: Fd | None, *, read_only: bool) -> Iterator[int]:
        if root is not None:
            if not stat.S_ISDIR(os.fstat(root.number).st_mode):
                raise InvalidArgument("the root is no directory")
            yield root.number
            return
        fd = self._mount(key, read_only=read_only)
        try:
            yield fd
        finally:
            os.close(fd)


def _folder(root: int, path: str) -> bytes:
    """Return the folder to extract into, links resolved."""
    try:
        where = evaluate(root, clean(_encoded(path)))
        os.close(open_in_root(root, where, O_DIRECTORY, links=False))
    except NotADirectoryError as error:
        raise InvalidArgument("extraction point is not a directory") from error
    except OSError as error:
        if error.errno in ABSENT:
            raise NotFound(f"Could not find the file {path}") from error
        raise
    return where


def _encoded(path: str) -> bytes:
    encoded = path.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise InvalidArgument("a path cannot contain a zero byte")
    if len(encoded) > 4095:
        raise InvalidArgument("file name too long")
    return encoded


def _write(into: Fd, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(into.number, rest) :]


@contextmanager
def _writer(into: Fd) -> Iterator[TarWriter]:
    writer = TarWriter(lambda data: _write(into, data))
    with _readers_there():
        yield writer
        writer.close()


@contextmanager
def _readers_there() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise Unavailable("nobody reads the archive any more") from error
