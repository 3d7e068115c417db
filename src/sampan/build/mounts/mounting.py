"""What RUN --mount brings into a step: parts of states and of the context, caches, tmpfs.

Source: docker documentation, Dockerfile reference, "RUN --mount".
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from sampan.build.caching.cache import Cache, key_of
from sampan.build.contexts.main_context import MainContext
from sampan.build.files.fetching import Sources
from sampan.build.files.layer import Item, digest_items, write_layer
from sampan.build.files.places import locate
from sampan.build.files.tree import File, Tree, folder, walk
from sampan.build.instructions.model import Mount as Wish
from sampan.build.mounts.borrowing import Borrowing
from sampan.build.mounts.prepared import Prepared, place_of
from sampan.build.mounts.sharing import SharedFolders
from sampan.build.worker import Clients, Worker
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import RunStep
from sampan.spec.digest import chain_id
from sampan.spec.docker.config import ImageOptions, Mount, TmpfsOptions
from sampan.spec.loan import LentCopy

_BELOW: Final = b"bind"
DiffIds = Callable[[str], Awaitable[Sequence[str]]]


class Mounting:
    """The mounts of one build."""

    def __init__(
        self, worker: Worker, cache: Cache, context: MainContext, clients: Clients, sources: Sources
    ) -> None:
        self._worker, self._context = worker, context
        self._borrowing = Borrowing(clients)
        self._shared = SharedFolders(worker, cache, sources)

    async def prepare(self, wishes: Sequence[Wish], working_dir: str, of: DiffIds) -> Prepared:
        """Find what is mounted; `of` tells the layers of a stage or image."""
        prepared = Prepared()
        for wish in wishes:
            target = place_of(working_dir, wish.target)
            if wish.type == "bind":
                await self._bind(wish, target, of, prepared)
            elif wish.type == "cache":
                below = await of(wish.origin) if wish.origin else None
                self._shared.prepare(wish, target, below, prepared)
            elif wish.type == "tmpfs":
                _tmpfs(wish, target, prepared)
            elif wish.type == "secret":
                self._borrowing.secret(wish, working_dir, prepared)
            else:
                self._borrowing.agent(wish, working_dir, prepared)
        prepared.check()
        return prepared

    async def _bind(self, wish: Wish, target: str, of: DiffIds, prepared: Prepared) -> None:
        writable = [] if wish.read_only else ["rw"]
        source = posixpath.normpath("/" + wish.source).lstrip("/")
        if wish.origin:
            diff_ids = await of(wish.origin)
            prepared.keys.append(key_of("bind", chain_id(diff_ids), source, target, *writable))
            give = self._image if wish.read_only else self._copy
            give(prepared, target, source, lambda: _ready(diff_ids))
            return
        context = await self._context.files()
        try:
            file = context.find(source.encode("utf-8", "surrogateescape"))
        except NotFound as error:
            raise InvalidArgument(f"failed to mount {wish.source}: {error}") from error
        items = await self._worker.call(lambda: _items(file, context))
        digest = await self._worker.call(lambda: digest_items(items))
        prepared.keys.append(key_of("bind", digest, target, *writable))
        if not items:
            _tmpfs(Wish(type="tmpfs", read_only=wish.read_only), target, prepared)
            return
        if not wish.read_only:  # a snapshot has other things in its root, too
            below = [replace(item, path=_BELOW + b"/" + item.path) for item in items]
            items = [Item(_BELOW, folder(file.mode), owner=(0, 0)), *below]

        async def layer() -> Sequence[str]:
            return [await self._worker.layer(None, lambda into: write_layer(items, into))]

        part = "" if file.is_folder else "file"
        if wish.read_only:
            self._image(prepared, target, part, layer)
        else:
            self._copy(prepared, target, f"{_BELOW.decode()}/{part}".rstrip("/"), layer)

    def _image(
        self,
        prepared: Prepared,
        target: str,
        subpath: str,
        layers: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        async def make(stack: AsyncExitStack, step: RunStep) -> None:
            image = self._worker.temporary_image(await layers())
            name = await stack.enter_async_context(image)
            options = ImageOptions(subpath=subpath)
            step.mounts.append(
                Mount(type="image", source=name, target=target, image_options=options)
            )

        prepared.targets.append(target)
        prepared.makers.append(make)

    def _copy(
        self,
        prepared: Prepared,
        target: str,
        subpath: str,
        layers: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        """Have files that the step may change: what it does to them is gone with it."""

        async def make(stack: AsyncExitStack, step: RunStep) -> None:
            diff_ids = await layers()
            chain = chain_id(diff_ids)
            if chain is None:
                raise InvalidArgument(f"failed to mount {target}: there are no files")
            await stack.enter_async_context(self._worker.temporary_image(diff_ids))
            copy = LentCopy(target=target, chain=chain, subpath=subpath)
            step.loan.copies.append(copy)

        prepared.targets.append(target)
        prepared.makers.append(make)

    def script(self, content: str, target: str, prepared: Prepared) -> None:
        """Have an executable file."""
        spool = self._context.spool
        file = File(b"0", 0o755)

        async def layer() -> Sequence[str]:
            def store() -> None:
                with spool.lock:
                    encoded = content.encode("utf-8", "surrogateescape")
                    file.at, file.stored, file.digest = spool.add([encoded])
                    spool.flush()
                file.size = file.stored

            await self._worker.call(store)
            items = [Item(b"file", file, spool, owner=(0, 0))]
            return [await self._worker.layer(None, lambda into: write_layer(items, into))]

        prepared.keys.append(key_of("script", content))
        self._image(prepared, target, "file", layer)

    async def places(self, chain: str | None, targets: Sequence[str]) -> list[bytes]:
        """Return what has to be made in a state so that there is something to mount on."""
        found: dict[bytes, None] = {}
        for target in targets:
            if target == "/dev" or target.startswith("/dev/"):
                continue
            place = await locate(self._worker, chain, target)
            if not place.exists:
                found |= dict.fromkeys([*place.missing_folders(), place.path])
        return list(found)


async def _ready(diff_ids: Sequence[str]) -> Sequence[str]:
    return diff_ids


def _items(file: File, tree: Tree) -> list[Item]:
    if not file.is_folder:
        return [Item(b"file", file, tree.spool, owner=(0, 0))]
    return [Item(path, one, tree.spool, owner=(0, 0)) for path, one in walk(file)]


def _tmpfs(wish: Wish, target: str, prepared: Prepared) -> None:
    async def make(stack: AsyncExitStack, step: RunStep) -> None:
        options = TmpfsOptions(size_bytes=wish.size)
        step.mounts.append(
            Mount(type="tmpfs", target=target, tmpfs_options=options, read_only=wish.read_only)
        )

    prepared.keys.append(key_of("tmpfs", target, str(wish.size)))
    prepared.targets.append(target)
    prepared.makers.append(make)
