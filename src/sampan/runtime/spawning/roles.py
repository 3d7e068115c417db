"""Keeper and forker: each can become the other (docs/decisions/001)."""

from __future__ import annotations

from sampan.runtime.spawning.forker import Forker
from sampan.runtime.spawning.keeper import Keeper
from sampan.runtime.spawning.world import NextForker, World


def serve(world: World) -> None:
    """Begin as the keeper, and take one role after the other until the spawner ends."""
    role: Keeper | Forker = Keeper(world)
    while after := role.run():
        if isinstance(after, NextForker):
            role = Forker(world, after.channel, after.keeper)
        else:
            role = Keeper(world, after.channel, after.forker, after.attached)
