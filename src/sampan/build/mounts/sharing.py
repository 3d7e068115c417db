"""RUN --mount=type=cache: folders that outlast builds, as volumes; what is in them at first.

Source: docker documentation, Dockerfile reference, "RUN --mount=type=cache"; buildkit
solver/llbsolver/mounts (a cache with another beginning is another cache).
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from sampan.build.caching.cache import MOUNT, Cache, key_of
from sampan.build.files.fetching import Sources
from sampan.build.files.layer import Item, write_layer
from sampan.build.files.tree import walk
from sampan.build.instructions.model import Mount as Wish
from sampan.build.mounts.prepared import Prepared
from sampan.build.worker import Worker
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import OwnedFolder, RunStep
from sampan.spec.digest import chain_id
from sampan.spec.docker.config import Mount, VolumeOptions

_MODE: Final = 0o755
_FOLDER: Final = "cache"  # where a cache is while it is filled
LABEL: Final = "org.sampan.build.cache"  # of volumes; its value is the id of the cache


class SharedFolders:
    """The caches of one build."""

    def __init__(self, worker: Worker, cache: Cache, sources: Sources) -> None:
        self._worker, self._cache, self._sources = worker, cache, sources

    def prepare(
        self, wish: Wish, target: str, below: Sequence[str] | None, prepared: Prepared
    ) -> None:
        """Have a cache mounted; `below` are the layers of what it begins with, None is nothing."""
        cache = wish.id or target
        source = "/" + posixpath.normpath("/" + wish.source).lstrip("/")
        part = [] if source == "/" else [source]
        chain = chain_id(below) if below else None
        origin = [] if below is None else ["from", chain or ""]
        # A part of what a cache begins with is a volume of its own: the rest is never copied.
        name = _name(cache) if below is None else _name("\0".join([cache, *origin, source]))
        subpath = source.lstrip("/") if below is None else ""

        async def make(stack: AsyncExitStack, step: RunStep) -> None:
            if wish.sharing != "shared":
                await stack.enter_async_context(self._cache.turn(f"mount {name}"))
            if below is not None:
                await self._fill(name, cache, chain, source)
            await self._cache.note_mount(name, cache)
            step.mounts.append(_mount(name, cache, target, subpath, read_only=wish.read_only))
            if wish.uid or wish.gid or wish.mode is not None:
                mode = _MODE if wish.mode is None else wish.mode
                owned = OwnedFolder(path=target, mode=mode, uid=wish.uid, gid=wish.gid)
                step.folders.append(owned)

        prepared.keys.append(key_of("cache", cache, target, *part, *origin))
        prepared.targets.append(target)
        prepared.makers.append(make)

    async def _fill(self, name: str, cache: str, chain: str | None, source: str) -> None:
        """Let a cache begin with a folder of a state, unless it has begun; it has a record then."""
        async with self._cache.turn(f"fill {name}"):
            if self._cache.has(name) and self._worker.mounted_caches.has(name):
                return
            items = [] if chain is None and source == "/" else await self._items(chain, source)
            await self._worker.mounted_caches.remove(name)  # what a killed engine has half filled
            if items:
                mount = _mount(name, cache, f"/{_FOLDER}", "")
                await self._worker.mounted_caches.fill(mount, lambda into: write_layer(items, into))
            await self._cache.note_mount(name, cache)

    async def _items(self, chain: str | None, source: str) -> list[Item]:
        try:
            tree = await self._sources.part(chain or "", source)
            found = tree.find(source.encode("utf-8", "surrogateescape"))
        except NotFound as error:
            raise InvalidArgument(f"failed to mount {source}: {error}") from error
        if not found.is_folder:
            raise InvalidArgument(f"failed to mount {source}: not a directory")
        above = _FOLDER.encode()
        below = [Item(above + b"/" + path, one, tree.spool) for path, one in walk(found)]
        return [Item(above, found, tree.spool), *below]


def _name(text: str) -> str:
    return f"{MOUNT}{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _mount(name: str, cache: str, target: str, part: str, *, read_only: bool = False) -> Mount:
    options = VolumeOptions(no_copy=True, labels={LABEL: cache}, subpath=part)
    return Mount(
        type="volume", source=name, target=target, read_only=read_only, volume_options=options
    )
