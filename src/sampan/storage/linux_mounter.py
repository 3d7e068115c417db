"""The Mounter of this machine: runs in the storage helper, or inside a privileged library user."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from sampan.errors import Conflict, InvalidArgument, NotFound, Unavailable, Unsupported
from sampan.linux import users
from sampan.linux.paths import O_DIRECTORY, open_in_root
from sampan.rpc import Fd
from sampan.spec.digest import digest_of
from sampan.storage.applying import Applier, Rules
from sampan.storage.compression import plain_chunks, reader_of
from sampan.storage.drivers.overlay import OverlayDriver
from sampan.storage.drivers.vfs import VfsDriver
from sampan.storage.fullness import told_when_full
from sampan.storage.inside import evaluate
from sampan.storage.layers import Applied, apply_layer
from sampan.storage.mounter import (
    Change,
    ExtractOptions,
    PathStat,
    SnapshotInfo,
    Unpacked,
    Usage,
)
from sampan.storage.packing import ABSENT, Packer, clean, stat_path
from sampan.storage.refusals import refusals_of
from sampan.storage.snapshots import Folders, Snapshot, SnapshotDriver, SnapshotStore
from sampan.storage.tar_reader import TarReader
from sampan.storage.tar_writer import TarWriter
from sampan.storage.trash import Collector

DRIVERS: Final[dict[str, Callable[[Path], SnapshotDriver]]] = {
    "overlay": OverlayDriver,
    "vfs": VfsDriver,
}


def forking(driver: str) -> tuple[str, ...]:
    """Return the methods that take long: the helper carries each call of them out in a child."""
    long = ("unpack", "changes", "diff", "pack", "extract", "usage")
    return (*long, "prepare") if driver == "vfs" else long


class LinuxMounter:
    """Snapshots below `root`, by the driver named `driver`.

    With `forks` the trash is emptied by a child process instead of a thread: for a helper, which
    has one thread only.
    """

    def __init__(self, root: Path, driver: str = "overlay", *, forks: bool = False) -> None:
        make = DRIVERS.get(driver)
        if make is None:
            raise Unsupported(f"[graphdriver] driver not supported: {driver}")
        folder = root / "snapshots" / driver
        folder.mkdir(parents=True, exist_ok=True)
        self._driver = make(folder)
        self._store = SnapshotStore(root, self._driver)
        self._trash = Collector(self._store.empty_trash, forks=forks)
        if self._store.has_trash():
            self._trash.wake()

    def close(self) -> None:
        """Finish the removals that were begun."""
        self._trash.close()

    # --- snapshots -------------------------------------------------------------------------

    def unpack(self, archive: Fd, chain_id: str, parent: str | None) -> Unpacked:
        """Apply a layer on `parent` as the snapshot `chain_id`; see Mounter."""
        if there := self._store.find(chain_id):
            return Unpacked(diff_id=there.diff_id, size=there.size, entries=there.entries)
        if parent is not None and len(self._store.chain(parent)) >= 127:
            raise InvalidArgument("max depth exceeded")
        folder = self._store.begin(self._store.chain(parent))
        try:
            with told_when_full():
                applied = self._apply(archive, folder, parent)
            expected = applied.diff_id if parent is None else chain_of_two(parent, applied.diff_id)
            if expected != chain_id:
                raise InvalidArgument(
                    f"layer from archive has diff id {applied.diff_id}, which does not make"
                    f" the chain id {chain_id}"
                )
            snapshot = Snapshot(
                key=chain_id,
                parent=parent,
                kind="committed",
                diff_id=applied.diff_id,
                size=applied.size,
                entries=applied.entries,
            )
            if not self._store.finish(folder, snapshot, durable=True):
                self._store.abandon(folder)  # somebody was faster with the same layer
        except BaseException:
            self._store.abandon(folder)
            raise
        return Unpacked(diff_id=applied.diff_id, size=applied.size, entries=applied.entries)

    def _apply(self, archive: Fd, folder: Path, parent: str | None) -> Applied:
        parents = self._store.chain(parent)
        tree = self._driver.tree(folder)
        with ExitStack() as undo:
            undo.callback(os.close, tree)
            mounted: list[int] = []

            def lower() -> int | None:
                if parents and not mounted:
                    below = Folders(parents[0], parents[1:])
                    mounted.append(self._driver.mount(below, committed=True, read_only=True))
                    undo.callback(os.close, mounted[0])
                return mounted[0] if mounted else None

            return apply_layer(reader_of(archive.number), tree, self._driver.rules(parents), lower)

    def prepare(self, key: str, parent: str | None) -> None:
        """Make a writable snapshot on the mount points that its parent shares; see Mounter."""
        if self._store.find(key):
            raise Conflict(f"snapshot {key} exists already")
        snapshot = Snapshot(key=key, parent=parent, kind="active", init=True)
        with told_when_full():
            folder = self._store.begin(self._store.init(parent))
            try:
                if not self._store.finish(folder, snapshot, durable=False):
                    raise Conflict(f"snapshot {key} exists already")
            except BaseException:
                self._store.abandon(folder)
                raise

    def mount(self, key: str, read_only: bool = False) -> Fd:
        """Return a detached mount of a snapshot."""
        return Fd(self._mount(key, read_only=read_only))

    def _mount(self, key: str, *, read_only: bool) -> int:
        snapshot = self._store.get(key)
        folders = self._store.folders(snapshot)
        committed = snapshot.kind == "committed"
        return self._driver.mount(folders, committed=committed, read_only=read_only)

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
        size, inodes = self._driver.usage(self._store.folders(snapshot).own)
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

    def stat(self, key: str, path: str, root: Fd | None = None) -> PathStat:
        """Return what `path` is."""
        with refusals_of(path), self._root(key, root, read_only=True) as fd:
            return stat_path(fd, _encoded(path))

    def pack(self, key: str, path: str, into: Fd, root: Fd | None = None) -> None:
        """Write `path` as a tar."""
        with (
            refusals_of(path),
            self._root(key, root, read_only=True) as fd,
            _writer(into) as writer,
        ):
            Packer(writer).pack(fd, _encoded(path))

    def extract(
        self, key: str, path: str, archive: Fd, options: ExtractOptions, root: Fd | None = None
    ) -> None:
        """Unpack a tar into the folder `path`."""
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


def chain_of_two(parent: str, diff_id: str) -> str:
    """Return the chain id of a layer on a parent."""
    return digest_of(f"{parent} {diff_id}".encode())


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


@contextmanager
def _writer(into: Fd) -> Iterator[TarWriter]:
    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(into.number, rest) :]

    writer = TarWriter(write)
    try:
        yield writer
        writer.close()
    except BrokenPipeError as error:
        raise Unavailable("nobody reads the archive any more") from error
