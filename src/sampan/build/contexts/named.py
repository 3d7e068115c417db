"""Named build contexts: what clients put in the place of stages and images.

Source: docker documentation, `docker buildx build`, "--build-context"; buildkit
frontend/dockerui/namedcontext.go (kinds, and how names are compared).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from sampan.build.caching.cache import Cache, Record, key_of
from sampan.build.contexts.git import is_repository, parse_repository
from sampan.build.contexts.reading import read_context, write_page
from sampan.build.dockerfiles.dockerfile import Dockerfile
from sampan.build.files.layer import Item, digest_items, write_layer
from sampan.build.files.tree import Spool, Tree, walk
from sampan.build.state import State
from sampan.build.telling.display import Voices
from sampan.build.worker import Clients, Worker
from sampan.errors import InvalidArgument, Unsupported
from sampan.http.urls import redacted
from sampan.spec.build import BuildOptions
from sampan.spec.digest import chain_id
from sampan.spec.image import RootFS
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

_WEB: Final = ("http", "https")
_FOLDERS: Final = ("local", "archive")  # of the client
_FILE: Final = b"context"  # what a page is called in its context


@dataclass(frozen=True, slots=True)
class Named:
    """One context: its name as the client gave it, and what it is, `kind:rest`."""

    name: str
    what: str


class Names:
    """What is known by a name; a name may be meant for one platform, `NAME::os/arch`."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = {_plain(name): Named(name, what) for name, what in given.items()}

    def find(self, name: str, platform: Platform | None = None) -> Named | None:
        """Return the context that a stage or image of this name is."""
        if not self._given:
            return None
        plain = _plain(name)
        meant = platform or Platform.host()
        return self._given.get(f"{plain}::{meant}") or self._given.get(plain)

    def override(self, dockerfile: Dockerfile) -> None:
        """Let stages that a context stands for begin with it, and end there."""
        for stage in dockerfile.stages:
            if stage.begin.name and self.find(stage.begin.name):
                stage.begin = replace(stage.begin, image=stage.begin.name)
                stage.instructions.clear()


def _plain(name: str) -> str:
    """Return a name as it is compared: without what Docker adds to it."""
    name, colons, platform = name.partition("::")
    try:
        name = Reference.parse(name).familiar.removesuffix(":latest")
    except InvalidArgument:
        pass  # it can be the name of a stage all the same
    return f"{name}{colons}{platform}"


class Contexts:
    """The named contexts of one build; each is fetched when it is first used."""

    def __init__(
        self,
        worker: Worker,
        cache: Cache,
        clients: Clients,
        options: BuildOptions,
        epoch: int | None,
    ) -> None:
        self._worker, self._cache, self._clients = worker, cache, clients
        self._options, self._epoch = options, epoch
        self.used: set[str] = set()  # keys of records
        self.names = Names(options.contexts)
        self._turns: dict[str, asyncio.Lock] = {}
        self._states: dict[str, State] = {}

    async def state(self, name: str, platform: Platform | None, voices: Voices) -> State | None:
        """Return what a named context is, None if there is none of this name."""
        named = self.names.find(name, platform)
        if named is None:
            return None
        async with self._turns.setdefault(named.name, asyncio.Lock()):
            if named.name not in self._states:
                self._states[named.name] = await self._load(named, platform, voices)
        return self._states[named.name]

    async def _load(self, named: Named, platform: Platform | None, voices: Voices) -> State:
        kind, colon, rest = named.what.partition(":")
        if not colon:
            raise InvalidArgument(f"invalid context specifier {named.what} for {named.name}")
        if kind == "docker-image":
            return await self._image(named, rest.removeprefix("//"), platform, voices)
        if kind == "oci-layout":
            return await self._layout(named, rest.removeprefix("//"), platform, voices)
        if kind == "result":
            return replace(self._clients.result(rest), arguments={}, declared=())
        if not (kind in _FOLDERS or kind in _WEB or is_repository(named.what)):
            raise Unsupported(f"unsupported context source {kind} for {named.name}")
        tree = Tree(Spool(self._worker.scratch()))
        try:
            await self._fill(tree, named, rest, voices)
            return await self.layer(named, tree, platform)
        finally:
            tree.spool.close()

    async def _image(
        self, named: Named, name: str, platform: Platform | None, voices: Voices
    ) -> State:
        if name == "scratch":
            return State.empty(platform)
        with voices.source(f"[context {named.name}] {name}") as say:
            base = await self._worker.base(
                name, platform, pull=self._options.pull, clients=self._clients, say=say
            )
        return State.of(base)

    async def _layout(
        self, named: Named, where: str, platform: Platform | None, voices: Voices
    ) -> State:
        """Return an image of a layout that the client has; `where` is `store@digest`."""
        store, _, digest = where.partition("@")
        store = store.partition(":")[0]  # a tag says nothing beside the digest
        if not digest:
            raise InvalidArgument(f'oci-layout reference "{where}" has no digest')
        with voices.source(f"[context {named.name}] OCI load from client"):
            archive = self._clients.layout(store, digest, platform)
            base = await self._worker.load(archive)
        state = State.of(base)
        if state.chain:
            key = key_of("layout", base.config.created, *base.config.diff_ids)
            await self._note(key, state.chain, base.config.diff_ids[-1], named)
            self._worker.release_layers([state.chain])  # the record has it now
        return state

    async def _fill(self, tree: Tree, named: Named, rest: str, voices: Voices) -> None:
        """Fetch files."""
        what = named.what
        if is_repository(what):
            with voices.source(f"[context {named.name}] load git source {redacted(what)}"):
                await self._worker.repository(parse_repository(what), partial(read_context, tree))
        elif what.startswith("local:"):
            with voices.source(f"[context {named.name}] load from client"):
                await self._clients.folder(rest, tree)
        elif what.startswith("archive:"):
            with voices.source(f"[context {named.name}] load from client"):
                await self._worker.feed(self._clients.archive(rest), partial(read_context, tree))
        else:
            with voices.source(f"[context {named.name}] {redacted(what)}"):
                await self._worker.download(what, partial(write_page, tree, _FILE))

    async def layer(self, named: Named, tree: Tree, platform: Platform | None) -> State:
        """Make a layer of files, or find the one that was made of the same files before."""
        items = [Item(path, file, tree.spool, owner=(0, 0)) for path, file in walk(tree.root)]
        state = State.empty(platform)
        if not items:
            return state
        digest = await self._worker.call(lambda: digest_items(items))
        key = key_of("context", digest, str(self._epoch))
        async with self._cache.turn(key):
            record = None if self._options.no_cache else self._cache.find(key)
            if record is None:
                diff_id = await self._worker.layer(
                    None, lambda into: write_layer(items, into, self._epoch)
                )
                chain = chain_id([diff_id]) or ""
                record = await self._note(key, chain, diff_id, named)
        self.used.add(key)
        draft = state.draft()
        draft.rootfs = RootFS(diff_ids=[record.diff_id])
        return replace(state, config=draft)

    async def _note(self, key: str, chain: str, diff_id: str, named: Named) -> Record:
        now = time.time_ns()
        record = Record(key, chain, diff_id, "", now, now, 0, f"[context {named.name}]")
        await self._cache.add(record)
        return record
