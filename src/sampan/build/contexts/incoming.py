"""What comes into builds from outside: archives of clients, web pages, repositories."""

from __future__ import annotations

from collections.abc import AsyncIterable
from functools import partial

from sampan.build.contexts.git import is_repository, parse_repository
from sampan.build.contexts.reading import hide_ignored, read_context, read_page
from sampan.build.files.tree import Spool, Tree
from sampan.build.worker import Worker
from sampan.spec.build import BuildOptions


class Incoming:
    """Puts it into trees."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def receive(self, chunks: AsyncIterable[bytes]) -> Tree:
        """Take a context in; whoever has it closes it by `build`, or its spool."""
        tree = Tree(Spool(self._worker.scratch()))
        try:
            await self._worker.feed(chunks, lambda fd: read_context(tree, fd))
        except BaseException:
            tree.spool.close()
            raise
        return tree

    async def fetch(self, url: str, options: BuildOptions) -> Tree:
        """Return the context that a web page is, an archive or a Dockerfile, or a repository."""
        tree = Tree(Spool(self._worker.scratch()))
        try:
            await self.load(url, tree, options.dockerfile)
            await self._worker.call(lambda: hide_ignored(tree, options.dockerfile))
        except BaseException:
            tree.spool.close()
            raise
        return tree

    async def load(self, url: str, tree: Tree, name: str) -> bool:
        """Put a repository, or what a web page is, into a tree.

        A page that is no archive is a Dockerfile, called `name`; the answer tells it is not that.
        """
        if is_repository(url):
            await self._worker.repository(parse_repository(url), partial(read_context, tree))
            return True
        return await self._worker.download(url, lambda fd: read_page(tree, fd, name))

    async def take(self, chunks: AsyncIterable[bytes], tree: Tree, name: str) -> bool:
        """Put what a client sends into a tree; see `load`."""
        return await self._worker.feed(chunks, lambda fd: read_page(tree, fd, name))
