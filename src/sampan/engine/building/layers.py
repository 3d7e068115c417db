"""Layers that builds make, each on its parent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from sampan.engine.images.feeding import from_pipe
from sampan.engine.images.layers import Layers
from sampan.errors import InvalidArgument
from sampan.spec.digest import EMPTY_LAYER, Digest


class BuiltLayers:
    """Adds layers to those of images; no image has them yet."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    async def make(self, parent: str | None, write: Callable[[int], None]) -> str:
        """Make a layer of an archive; return its diff id, "" if it changes nothing."""
        below = Digest(parent) if parent else None
        async with from_pipe(write) as pieces:
            staged = await self._layers.stage(pieces, parent=below)
        if staged.diff_id == EMPTY_LAYER:
            await self._layers.discard(staged)
            return ""
        await self._layers.commit(staged, below, lease=False)
        return staged.diff_id

    async def bring(self, parent: str | None, diff_id: str, pieces: AsyncIterator[bytes]) -> None:
        """Put a layer, whose archive (any compression) comes, on its parent.

        Raises InvalidArgument if it is another one.
        """
        below = Digest(parent) if parent else None
        staged = await self._layers.stage(pieces, parent=below)
        if staged.diff_id != diff_id:
            await self._layers.discard(staged)
            raise InvalidArgument(f"the layer {staged.diff_id} was said to be {diff_id}")
        await self._layers.commit(staged, below, lease=False)

    async def capture(self, container: str, parent: str | None) -> str:
        """Make a layer of what a container has changed, without an archive; return its diff id.

        Raises Unsupported where the snapshots cannot do that.
        """
        staged = await self._layers.capture(container)
        if staged is None:
            return ""
        await self._layers.commit(staged, Digest(parent) if parent else None, lease=False)
        return staged.diff_id
