"""An image store for tests, on a mounter that keeps snapshots in a dictionary."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from sampan.engine.database import Database
from sampan.engine.images.images import Images, ImageUse
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.rpc import Fd
from sampan.spec.digest import chain_ids
from sampan.spec.reference import Reference
from sampan.storage.archives.compression import plain_chunks, reader_of
from sampan.storage.mounter import DiskReport, DriverInfo, Kind, Mounter, SnapshotInfo, Unpacked
from tests import tarballs

T = TypeVar("T")


class DictionaryMounter:
    """Keeps which snapshots there are, and nothing of what is in them."""

    def __init__(self) -> None:
        self.parents: dict[str, str | None] = {}
        self.staged: dict[str, bytes] = {}  # key → uncompressed tar
        self.committed: dict[str, bytes] = {}
        self.unpacked: list[str] = []  # keys whose archives were read
        self.changed: dict[str, bytes] = {}  # key → the layer that `diff` gives

    def driver(self) -> DriverInfo:
        return DriverInfo(name="overlay")

    def layers_stand_alone(self) -> bool:
        return True

    def unpack(self, archive: Fd, key: str, parent: str | None = None) -> Unpacked:
        if key not in self.staged:
            self.unpacked.append(key)
            content = b"".join(plain_chunks(reader_of(archive.number)))
            self.staged[key] = content
        content = self.staged[key]
        size = len(content)
        return Unpacked(diff_id=tarballs.digest(content), plain_size=size, size=size, entries=1)

    def commit(self, key: str, chain_id: str, parent: str | None) -> None:
        if chain_id in self.committed:
            self.staged.pop(key, None)
            return
        if key not in self.staged:
            raise NotFound(f"snapshot {key} does not exist")
        diff_id = tarballs.digest(self.staged[key])
        expected = tarballs.digest(f"{parent} {diff_id}".encode()) if parent else diff_id
        if chain_id != expected:
            raise InvalidArgument("not what it is called")
        self.parents[chain_id] = parent
        self.committed[chain_id] = self.staged.pop(key)

    def pack_layer(self, chain_id: str, into: Fd) -> None:
        rest = memoryview(self.committed[chain_id])
        while rest:
            rest = rest[os.write(into.number, rest) :]

    def verify(self, chain_id: str) -> list[str]:
        return [] if chain_id in self.committed else [f"snapshot {chain_id} does not exist"]

    def disk_usage(self) -> DiskReport:
        layers = {**self.committed, **self.staged}
        return DiskReport(
            snapshots={key: len(content) for key, content in layers.items()}, others={}
        )

    def prepare(self, key: str, parent: str | None, size: int | None = None) -> None:
        self.parents[key] = parent

    def remove(self, key: str) -> None:
        if key in self.parents.values():
            raise Conflict(f"snapshot {key} has children")
        self.parents.pop(key, None)
        self.committed.pop(key, None)
        self.staged.pop(key, None)

    def snapshots(self) -> list[SnapshotInfo]:
        found = [_layer(key, None, "staged", content) for key, content in self.staged.items()]
        for key, parent in self.parents.items():
            if key in self.committed:
                found.append(_layer(key, parent, "committed", self.committed[key]))
            else:
                found.append(SnapshotInfo(key=key, parent=parent, kind="active"))
        return found

    def diff(self, key: str, into: Fd) -> None:
        os.write(into.number, self.changed.get(key, bytes(1024)))

    def graph(self, key: str) -> dict[str, str]:
        return {"UpperDir": f"/{key}"}


def _layer(key: str, parent: str | None, kind: Kind, content: bytes) -> SnapshotInfo:
    return SnapshotInfo(
        key=key,
        parent=parent,
        kind=kind,
        diff_id=tarballs.digest(content),
        plain_size=len(content),
        size=len(content),
        entries=1,
    )


class Shop:
    """Images, the containers that use them, and the events that they cause."""

    def __init__(self, root: Path, mounter: Any = None, **options: Any) -> None:
        self.root, self._options = root, options
        self.mounter = mounter or DictionaryMounter()
        self.uses: list[ImageUse] = []
        self.events: list[tuple[str, str]] = []
        self.open()

    def open(self) -> None:
        """Open the store, as a daemon does that starts."""
        self.database = Database(self.root / "database.sqlite")
        self.images = Images(
            self.root,
            self.database,
            cast(Mounter, self.mounter),
            uses=lambda: self.uses,
            containers=lambda: {use.container for use in self.uses},
            emit=self._emit,
            **self._options,
        )

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _emit(self, action: str, image: str, attributes: Mapping[str, str]) -> None:
        self.events.append((action, attributes.get("name", "")))

    # --- shorter words ---------------------------------------------------------------------

    def make(self, name: str = "", content: bytes = b"", **options: Any) -> str:
        """Import an image."""
        archive = tarballs.archive(tarballs.file("f", content or name.encode()))
        reference = Reference.parse(name).with_default_tag() if name else None
        return run(self.images.import_(stream(archive), reference, **options))

    def build(self, parent: str, content: bytes, name: str = "") -> str:
        """Commit an image on another."""
        from sampan.engine.images.images import CommitRequest

        image = run(self.images.resolve(parent))
        layer = tarballs.archive(tarballs.file("g", content)) if content else bytes(1024)
        self.mounter.prepare("box", image.chain_id)
        self.mounter.changed["box"] = layer
        try:
            request = CommitRequest(
                container="box",
                image=image.id,
                config=image.config.run,
                reference=Reference.parse(name) if name else None,
            )
            return run(self.images.commit(request))
        finally:
            self.mounter.remove("box")

    def listed(self, all: bool = False, **filters: str | list[str]) -> list[str]:
        """Return the names, or short ids, that `docker images` shows, sorted."""
        wanted = {
            name: [value] if isinstance(value, str) else value for name, value in filters.items()
        }
        found = run(self.images.summaries(wanted, all=all))
        return sorted(name for item in found for name in item.repo_tags or [item.id[7:19]])

    def remove(self, name: str, **options: Any) -> list[str]:
        """Remove an image; return what Docker prints."""
        done = run(self.images.remove(name, **options))
        return [
            f"Untagged: {item.untagged}" if item.untagged else f"Deleted: {item.deleted}"
            for item in done
        ]

    def save(self, *names: str) -> bytes:
        """Return an archive of images."""

        async def collect() -> bytes:
            return b"".join([piece async for piece in self.images.save(names)])

        return run(collect())

    def load(self, content: bytes, **options: Any) -> list[str]:
        """Load an archive; return the lines that Docker prints."""

        async def collect() -> list[str]:
            messages = self.images.load(stream(content), **options)
            return [(message.stream or message.status).strip() async for message in messages]

        return run(collect())

    def blobs(self) -> set[str]:
        """Return the digests in the content store."""
        return set(self.images.store.content)

    def chains(self, name: str) -> list[str]:
        """Return the chain ids of an image, top first."""
        image = run(self.images.resolve(name))
        return list(chain_ids(image.config.diff_ids))[::-1]


def run(call: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns."""
    return asyncio.run(call)


async def stream(content: bytes, size: int = 5000) -> AsyncIterator[bytes]:
    """Yield bytes in pieces."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


def names(content: bytes) -> list[str]:
    """Return the names in an archive."""
    return tarballs.names(content)


def member(content: bytes, name: str) -> Any:
    """Return a JSON document of an archive."""
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        found = opened.extractfile(name)
        assert found is not None
        return msgspec.json.decode(found.read())
