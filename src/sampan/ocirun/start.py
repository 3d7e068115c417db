"""`start`: let a created container execute its program."""

from __future__ import annotations

from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, Flag
from sampan.runtime.container import Container

FLAGS: tuple[Flag, ...] = ()
USAGE = "CONTAINER"
OPERANDS = (1, 1)


def run(context: Context, given: Arguments) -> int:
    """Start the container."""
    Container.load(context.root, given.operands[0]).start()
    return 0
