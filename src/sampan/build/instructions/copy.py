"""COPY and ADD: what is taken from where, and the layer that it makes.

Source: docker documentation, Dockerfile reference, "ADD", "COPY"; moby
daemon/builder/dockerfile/copy.go (rules and messages).
"""

from __future__ import annotations

import os
from dataclasses import replace

from sampan.build.caching.cache import key_of
from sampan.build.contexts.ignore import Ignore
from sampan.build.contexts.main_context import MainContext
from sampan.build.files.fetching import Sources
from sampan.build.files.layer import Item, digest_items, write_layer
from sampan.build.files.modes import mode_of
from sampan.build.files.places import Place, locate, owner_of
from sampan.build.files.selecting import Chosen
from sampan.build.files.tree import File, Spool, Tree, folder
from sampan.build.instructions.wanted import Wanted
from sampan.build.worker import Worker
from sampan.errors import InvalidArgument, NotFound
from sampan.http.urls import redacted


class Copying:
    """One copy onto the state `chain`."""

    def __init__(self, worker: Worker, chain: str | None, wanted: Wanted) -> None:
        self._worker, self._chain, self._wanted = worker, chain, wanted
        self._ignore = Ignore(wanted.exclude) if wanted.exclude else None
        self._mode = mode_of(wanted.chmod) if wanted.chmod else None
        self._owner: tuple[int, int] | None = None
        self._items: list[Item] = []
        self._is_folder = wanted.destination.endswith("/")

    async def choose(self, sources: Sources, context: MainContext) -> str:
        """Find all that is copied; return the key of what is made of it."""
        wanted, it = self._wanted, self._wanted.instruction
        try:
            for source in wanted.sources:
                wanted.chosen.extend(await sources.choose(source, wanted, context))
        except NotFound as error:
            where = "" if it.origin else "file not found in build context or excluded by"
            where = f"{where} .dockerignore: " if where else ""
            raise InvalidArgument(
                f"{wanted.name} failed: {where}stat {redacted(source)}: {error}"
            ) from error
        if wanted.documents:
            await self._worker.call(lambda: self._documents(context.spool))
        if wanted.chown:
            self._owner = await owner_of(self._worker, self._chain, wanted.chown)
        self._is_folder = self._is_folder or any(one.contents for one in wanted.chosen)
        if len(wanted.chosen) > 1 and not self._is_folder:
            raise InvalidArgument(
                f"When using {wanted.name} with more than one source file, the destination must be"
                " a directory and end with a /"
            )
        self._items = await self._worker.call(self._list)
        digest = await self._worker.call(lambda: digest_items(self._items))
        linked = ["link"] if self._is_linked else []
        return key_of(
            "copy", self._chain, wanted.destination, str(self._is_folder), digest, *linked
        )

    @property
    def _is_linked(self) -> bool:
        """Nothing of the state below is looked at: not what is a link there, nor what is not."""
        return self._wanted.instruction.link and not self._wanted.chmod

    def _documents(self, spool: Spool) -> None:
        tree = Tree(spool)
        for number, (name, content) in enumerate(self._wanted.documents):
            path = b"%d" % number
            with tree.spool.lock:
                tree.write(path, content.encode("utf-8", "surrogateescape"))
            self._wanted.chosen.append(Chosen(os.fsencode(name), tree.find(path), tree.spool))

    def _list(self) -> list[Item]:
        """Return what is copied by names relative to the destination; the last of a name counts."""
        found: dict[bytes, Item] = {}
        for chosen in self._wanted.chosen:
            owner = self._owner or (None if chosen.foreign else (0, 0))
            for path, file in chosen.entries(self._ignore):
                mode = self._mode(file.mode, file.is_folder) if self._mode else None
                item = Item(path, file, chosen.spool, mode, owner)
                if file.is_folder and path in found:
                    found[path] = item
                else:
                    found.pop(path, None)
                    found[path] = item
        return list(found.values())

    async def make(self, epoch: int | None) -> str:
        """Make the layer; return its diff id."""
        below = None if self._is_linked else self._chain
        place = await locate(self._worker, below, self._wanted.destination)
        items = self._placed(place)
        return await self._worker.layer(self._chain, lambda into: write_layer(items, into, epoch))

    def _placed(self, place: Place) -> list[Item]:
        """Return the items by their paths in the root, with the folders that are missing."""
        owner = self._owner or (0, 0)
        above = [Item(path, folder(), None, None, owner) for path in place.missing_folders()]
        inside = self._is_folder or (place.exists and place.is_folder)
        if not inside:
            return [*above, *(replace(item, path=place.path) for item in self._items)]
        if place.exists and not place.is_folder:
            raise InvalidArgument(
                f"cannot copy to non-directory: /{place.path.decode('utf-8', 'replace')}"
            )
        if not place.exists:
            above.append(Item(place.path, self._root(), None, self._root_mode(), owner))
        start = place.path + b"/" if place.path else b""
        return [*above, *(replace(item, path=start + item.path) for item in self._items)]

    def _root(self) -> File:
        contents = [one.file for one in self._wanted.chosen if one.contents and not one.name]
        return folder(contents[0].mode, contents[0].mtime) if contents else folder()

    def _root_mode(self) -> int | None:
        return self._mode(0o755, True) if self._mode else None
