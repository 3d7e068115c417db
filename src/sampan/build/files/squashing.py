"""What a build has added, as one layer."""

from __future__ import annotations

import msgspec

from sampan.build.files.rewriting import Squashing
from sampan.build.files.tree import Spool
from sampan.build.state import State
from sampan.build.worker import Worker
from sampan.spec.digest import chain_id
from sampan.spec.image import History, RootFS


async def squashed(worker: Worker, spool: Spool, state: State) -> State:
    """Return a state with one layer instead of all that its build has added.

    Source: moby daemon/images/image_squash.go (what the history says).
    """
    base = state.config.diff_ids[: state.base_layers]
    new = state.config.diff_ids[state.base_layers :]
    if not new:
        return state
    squashing = Squashing(spool)
    for one in new:
        await worker.unpacked(one, squashing.read)
    diff_id = await worker.layer(chain_id(base), squashing.write)
    draft = state.draft()
    draft.rootfs = RootFS(diff_ids=[*base, *([diff_id] if diff_id else [])])
    history = draft.history or []
    emptied = [
        msgspec.structs.replace(step, empty_layer=True) for step in history[state.base_steps :]
    ]
    last = History(created=draft.created, comment="merge", empty_layer=not diff_id)
    draft.history = [*history[: state.base_steps], *emptied, last]
    return state.changed(draft)
