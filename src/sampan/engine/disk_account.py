"""What every byte below the data root belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.engine.blocking import blocking, in_own_thread
from sampan.engine.images.model import ImageUse
from sampan.engine.images.store import ImageStore
from sampan.spec.storage import StorageItem
from sampan.storage.mounter import DiskReport

_DATABASE: Final = "database.sqlite"
_TRASH: Final = (".trash", ".new")


@dataclass(slots=True)
class _Tally:
    """Things of one kind."""

    item: StorageItem

    def add(self, size: int, *, reclaimable: bool = False, count: int = 1) -> None:
        self.item.count += count
        self.item.size += size
        self.item.reclaimable += size if reclaimable else 0


class DiskAccount:
    """Adds up allocated blocks as du(1) does, each kind of thing by itself."""

    def __init__(
        self, root: Path, store: ImageStore, uses: Callable[[], Iterable[ImageUse]]
    ) -> None:
        self._root, self._store, self._uses = root, store, uses

    async def items(self) -> list[StorageItem]:
        """Return what there is, in the order of a table; all sizes together are the data root's."""
        report = await in_own_thread(self._store.mounter.disk_usage)
        kinds = {info.key: info.kind for info in await blocking(self._store.mounter.snapshots)}
        layers, unfinished, writable, points, trash, other = self._snapshots(report, kinds)
        archives, documents = await blocking(
            self._content, self._archives(), self._archives_in_use()
        )
        logs, database, rest = await blocking(self._rest)
        ingest = self._store.content.folder / "ingest"
        trash.add(await blocking(size_below, ingest), reclaimable=True)
        other.add(rest, count=0)
        tallies = (
            *(layers, unfinished, archives, documents, writable, points, logs, database),
            *(trash, other),
        )
        return [tally.item for tally in tallies]

    def _snapshots(self, report: DiskReport, kinds: Mapping[str, str]) -> tuple[_Tally, ...]:
        uses = {use.container: use for use in self._uses()}
        in_use = {
            chain
            for use in uses.values()
            if (image := self._store.images.get(use.image))
            for chain in image.chains
        }
        needed = {chain for image in self._store.images.values() for chain in image.chains}
        layers, unfinished = _tally("Layers"), _tally("Unfinished layers")
        writable, points = _tally("Containers"), _tally("Mount points")
        trash, other = _tally("Trash"), _tally("Other")
        for key, size in report.snapshots.items():
            if kinds.get(key) == "active":
                use = uses.get(key)
                writable.add(size, reclaimable=use is None or not use.running)
            elif key in needed:
                layers.add(size, reclaimable=key not in in_use)
            else:
                unfinished.add(size, reclaimable=True)
        for name, size in report.others.items():
            if name == ".init":
                points.add(size)
            elif name in _TRASH:
                trash.add(size, reclaimable=True, count=0)
            else:
                other.add(size, count=0 if name == "." else 1)
        return layers, unfinished, writable, points, trash, other

    def _archives(self) -> dict[str, str]:
        """Return the diff ids of the layers whose archives are kept, by the archives' digests."""
        return {layer.blob: layer.diff_id for layer in self._store.layers.kept() if layer.blob}

    def _archives_in_use(self) -> set[str]:
        """Return the diff ids of the layers that containers are on."""
        return {
            diff_id
            for use in self._uses()
            if (image := self._store.images.get(use.image))
            for diff_id in image.config.diff_ids
        }

    def _content(self, kept: Mapping[str, str], in_use: Collection[str]) -> tuple[_Tally, _Tally]:
        """Add up the archives of layers, and all other content; runs in a thread."""
        archives, documents = _tally("Layer archives"), _tally("Manifests and configurations")
        for digest in self._store.content:
            size = self._store.content.allocated(digest)
            if diff_id := kept.get(digest):
                archives.add(size, reclaimable=diff_id not in in_use)
            else:
                documents.add(size)
        return archives, documents

    def _rest(self) -> tuple[_Tally, _Tally, int]:
        """Add up logs, the database, and the folders themselves with what else lies in the root."""
        logs, database, rest = _tally("Logs and files"), _tally("Database"), 0
        rest += _own(self._root)
        for entry in os.scandir(self._root):
            path = Path(entry.path)
            if entry.name == "containers":
                for folder in os.scandir(path):
                    logs.add(size_below(Path(folder.path)))
                rest += _own(path)
            elif entry.name == "volumes":
                continue  # only root may look: `Volumes.storage` counts them
            elif path == self._store.content.folder:
                rest += sum(map(_own, _folders_of_content(path)))
            elif entry.name == "images":
                rest += _own(path)
                for folder in os.scandir(path):
                    rest += self._images_of_driver(Path(folder.path), database)
            elif entry.name == "snapshots":
                rest += _own(path)
            elif entry.name.startswith(_DATABASE):
                database.add(_own(path))
            else:
                rest += size_below(path)
        return logs, database, rest

    def _images_of_driver(self, folder: Path, database: _Tally) -> int:
        """Add up what another driver than overlay keeps of images; of one not used now, all."""
        content = self._store.content.folder
        if folder != content.parent:
            return size_below(folder)
        for path in folder.glob(f"{_DATABASE}*"):
            database.add(_own(path))
        return _own(folder) + sum(map(_own, _folders_of_content(content)))


def _tally(kind: str) -> _Tally:
    return _Tally(StorageItem(kind=kind))


def _folders_of_content(content: Path) -> Iterator[Path]:
    blobs = content / "blobs"
    yield from (content, blobs, *(path for path in blobs.iterdir()))


def _own(path: Path) -> int:
    """Return the allocated bytes of a file or folder itself."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def size_below(path: Path) -> int:
    """Return the allocated bytes of a path and of all below it that may be read."""
    total = _own(path)
    try:
        entries = list(os.scandir(path))
    except (NotADirectoryError, FileNotFoundError, PermissionError):
        return total
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            total += size_below(Path(entry.path))
        else:
            total += _own(Path(entry.path))
    return total
