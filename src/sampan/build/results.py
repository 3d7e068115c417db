"""What becomes of what was built: an image with names, files, an archive."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import msgspec

from sampan.build.built import Built
from sampan.build.contexts.reading import read_context
from sampan.build.files.layer import Item, write_layer
from sampan.build.files.tree import Spool, Tree, walk
from sampan.build.remotecache.records import INLINE, write_inline
from sampan.build.worker import Worker
from sampan.errors import InvalidArgument


class Results:
    """Hands results out."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def named(
        self, built: Built, names: Sequence[str], say: Callable[[str], None]
    ) -> tuple[str, list[str]]:
        """Store an image and give it its names, all or nothing; return its id and how they are."""

        async def work() -> tuple[str, list[str]]:
            image, given = await self._store(built, awaits_name=bool(names)), []
            say(f"writing image {image}")
            for name in names:
                given.append(await self.tag(image, name))
                say(f"naming to {given[-1]}")
            return image, given

        return await self._worker.undivided(work())

    def archive(
        self, tree: Tree, epoch: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give files as an uncompressed archive, its pieces as they are made."""
        items = [Item(path, file, tree.spool) for path, file in walk(tree.root)]
        return self._worker.written(lambda into: write_layer(items, into, epoch))

    async def _store(self, built: Built, *, awaits_name: bool) -> str:
        """Store what was built as an image; return its id."""
        state = built.state
        if state.image:
            return state.image
        if not state.config.history:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        return await self._worker.add_image(await self.config(built), awaits_name=awaits_name)

    async def config(self, built: Built) -> bytes:
        """Return the configuration of what was built, with its steps if it tells of them."""
        if built.state.image:
            return await self._worker.config(built.state.image)
        encoded = built.state.encoded()
        if not built.inline:
            return encoded
        told = write_inline(built.steps, built.state.config.diff_ids)
        fields = msgspec.json.decode(encoded) | {INLINE: b64encode(told).decode()}
        return msgspec.json.encode(fields, order="sorted")

    async def files(self, built: Built, spool: Spool | None = None) -> Tree:
        """Return the files of what was built; whoever has them closes their spool."""
        tree = Tree(spool or Spool(self._worker.scratch()))
        try:
            if built.state.chain:
                await self._worker.pack(built.state.chain, "", partial(read_context, tree))
        except BaseException:
            if spool is None:
                tree.spool.close()
            raise
        return tree

    async def tag(self, image: str, name: str) -> str:
        """Give an image a name; return it as users write it."""
        return await self._worker.tag(image, name)
