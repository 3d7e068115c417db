"""The context of a build, which comes when something first needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sampan.build.files.tree import Spool, Tree


class MainContext:
    """Files of the client, or of what it has named; all stages of a build share them.

    `fetch` puts them into the tree; without it they are there. `spool` takes the contents of all
    else that comes in while they may be on their way: that of the tree is theirs alone till then.
    """

    def __init__(
        self,
        tree: Tree,
        fetch: Callable[[Tree], Awaitable[None]] | None = None,
        spool: Spool | None = None,
    ) -> None:
        self._tree, self._fetch = tree, fetch
        self.spool = spool or tree.spool
        self._turn = asyncio.Lock()

    async def files(self) -> Tree:
        """Return the files."""
        async with self._turn:
            if self._fetch is not None:
                await self._fetch(self._tree)
                self._fetch = None
        return self._tree
