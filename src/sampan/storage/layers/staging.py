"""Layers on their way in: unpacked under a name of their own, then put on their parent."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.linux import trees
from sampan.spec.digest import EMPTY_LAYER, digest_of
from sampan.storage.archives.compression import reader_of, widen
from sampan.storage.archives.recipe import NAME
from sampan.storage.archives.recording import Recorder
from sampan.storage.drivers.driver import Folders
from sampan.storage.fullness import told_when_full
from sampan.storage.layers.capturing import capture
from sampan.storage.layers.deferred import FILE, HOLDERS, Deferred, Pending, read_pending
from sampan.storage.layers.layers import Applied, apply_layer
from sampan.storage.layers.settling import Settler, take_root
from sampan.storage.mounter import Unpacked
from sampan.storage.snapshots import MAX_LAYERS, Snapshot, SnapshotStore, sync_filesystem


class Staging:
    """Unpacks and commits the layers of a store."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store, self._driver = store, store.driver

    # --- unpacking ---------------------------------------------------------------------------

    def unpack(self, archive: int, key: str, parent: str | None) -> Unpacked:
        """Unpack the layer that the descriptor `archive` yields; see Mounter."""
        if there := self._store.find(key):
            return _unpacked(there)
        if key.startswith("sha256:"):
            raise InvalidArgument("a layer is unpacked under another name than its chain id")
        if not self._driver.copies:
            parent = None
        parents = self._chain(parent)
        folder = self._store.begin(parents)
        try:
            with told_when_full():
                applied = self._apply(archive, folder, parents)
            snapshot = Snapshot(
                key=key,
                parent=parent,
                kind="staged",
                diff_id=applied.diff_id,
                plain_size=applied.plain_size,
                size=applied.size,
                entries=applied.entries,
                bound=self._driver.copies,
            )
            if not self._store.finish(folder, snapshot, durable=True):
                self._store.abandon(folder)  # somebody was faster with the same layer
        except BaseException:
            self._store.abandon(folder)
            raise
        return _unpacked(snapshot)

    def _chain(self, parent: str | None) -> tuple[Path, ...]:
        chain = self._store.chain(parent)
        if len(chain) >= MAX_LAYERS:
            raise InvalidArgument("max depth exceeded")
        return chain

    def _apply(self, archive: int, folder: Path, parents: tuple[Path, ...]) -> Applied:
        with ExitStack() as undo:
            tree = self._driver.tree(folder)
            undo.callback(os.close, tree)
            deferred = (
                None if self._driver.copies else undo.enter_context(closing(Deferred(folder)))
            )
            recorder = undo.enter_context(closing(Recorder(folder, tree)))
            rules = self._driver.rules(parents)
            widen(archive)
            applied = apply_layer(reader_of(archive), tree, rules, deferred, recorder)
            if deferred:
                deferred.save()
            return applied

    # --- capturing ---------------------------------------------------------------------------

    def capture(self, key: str, staged: str) -> Unpacked:
        """Stage the directory that an active snapshot was written to; see Mounter."""
        active = self._store.get(key)
        if active.kind != "active":
            raise InvalidArgument(f"snapshot {key} is not writable")
        if self._driver.name != "overlay" or active.parent is None:
            raise Unsupported("a layer of this snapshot has to be copied")
        if staged.startswith("sha256:"):
            raise InvalidArgument("a layer is staged under another name than its chain id")
        if self._store.find(staged):
            raise Conflict(f"snapshot {staged} exists")
        folders = self._store.folders(active)
        tree = self._driver.tree(folders.own)
        try:
            recipe = folders.own / NAME
            recipe.unlink(missing_ok=True)
            applied = capture(tree, recipe, lambda into: self._driver.diff(folders, into))
        finally:
            os.close(tree)
        snapshot = Snapshot(
            key=staged,
            parent=active.parent,
            kind="staged",
            diff_id=applied.diff_id,
            plain_size=applied.plain_size,
            size=applied.size,
            entries=applied.entries,
            bound=True,
        )
        if applied.diff_id == EMPTY_LAYER:
            recipe.unlink()
        else:
            self._take(folders, snapshot)
        return _unpacked(snapshot)

    def _take(self, folders: Folders, snapshot: Snapshot) -> None:
        folder = self._store.begin(())
        try:
            os.rmdir(folder / "fs")
            try:
                os.rename(folders.own / "fs", folder / "fs")
            except OSError as error:
                if error.errno == errno.EXDEV:  # the snapshot has a limited size of its own
                    raise Unsupported("a layer of this snapshot has to be copied") from error
                raise
            os.rename(folders.own / NAME, folder / NAME)
            if not self._store.finish(folder, snapshot, durable=True):
                raise Conflict(f"snapshot {snapshot.key} exists")
        except BaseException:
            self._store.abandon(folder)
            raise

    # --- committing --------------------------------------------------------------------------

    def commit(self, key: str, chain_id: str, parent: str | None) -> None:
        """Put a staged layer on its parent; see Mounter."""
        try:
            self._commit(key, chain_id, parent)
        except NotFound:
            if self._store.find(chain_id) is None:  # else somebody was faster
                raise

    def _commit(self, key: str, chain_id: str, parent: str | None) -> None:
        staged = self._store.find(key)
        if staged is not None and staged.kind != "staged":
            raise InvalidArgument(f"snapshot {key} is not staged")
        if self._store.find(chain_id):
            self._store.remove(key)
            return
        if staged is None:
            raise NotFound(f"snapshot {key} does not exist")
        _check(staged, chain_id, parent)
        parents = self._chain(parent)
        with ExitStack() as undo, told_when_full():
            undo.callback(os.close, self._lock(staged))
            staged = self._store.get(key)
            if staged.bound and staged.parent != parent:
                raise Conflict(f"snapshot {key} was made for another parent")
            if not self._driver.copies:
                self._settle(staged, parent, parents)
            committed = msgspec.structs.replace(
                staged, key=chain_id, kind="committed", parent=parent, bound=False
            )
            if not self._store.commit(staged, committed):
                self._store.remove(key)

    def _lock(self, staged: Snapshot) -> int:
        """Keep out others that commit the same layer; they wait, and do not find it any more."""
        try:
            fd = os.open(self._store.path(staged), trees.DIRECTORY)
        except FileNotFoundError as error:
            raise NotFound(f"snapshot {staged.key} does not exist") from error
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def _settle(self, staged: Snapshot, parent: str | None, parents: tuple[Path, ...]) -> None:
        folder = self._store.path(staged)
        with ExitStack() as undo:
            tree = self._driver.tree(folder)
            undo.callback(os.close, tree)
            above = None
            if parents:
                above = self._driver.tree(parents[0])
                undo.callback(os.close, above)
            take_root(tree, above)
            pending = read_pending(folder)
            if pending is None:
                return
            if not staged.bound:  # from here on, it fits no other parent
                self._store.bind(msgspec.structs.replace(staged, parent=parent, bound=True))
            self._finish(folder, tree, parents, pending)

    def _finish(self, folder: Path, tree: int, parents: tuple[Path, ...], pending: Pending) -> None:
        with ExitStack() as undo:
            own = os.open(folder, trees.DIRECTORY)
            undo.callback(os.close, own)
            lower = None
            if parents:
                below = Folders(parents[0], parents[1:])
                lower = self._driver.mount(below, committed=True, read_only=True)
                undo.callback(os.close, lower)
            Settler(own, tree, lower, self._driver.rules(parents).opaque).settle(pending)
            trees.remove(own, HOLDERS.encode())  # first: they are links to files of the layer
            trees.remove(own, FILE.encode())
        sync_filesystem(folder)


def _check(staged: Snapshot, chain_id: str, parent: str | None) -> None:
    """Raise InvalidArgument for a layer that is not what it is to be called."""
    diff_id = staged.diff_id
    expected = diff_id if parent is None else digest_of(f"{parent} {diff_id}".encode())
    if expected != chain_id:
        raise InvalidArgument(
            f"layer from archive has diff id {diff_id}, which does not make the chain id {chain_id}"
        )


def _unpacked(snapshot: Snapshot) -> Unpacked:
    return Unpacked(
        diff_id=snapshot.diff_id,
        plain_size=snapshot.plain_size,
        size=snapshot.size,
        entries=snapshot.entries,
    )
