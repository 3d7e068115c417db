"""`pause`: stop all processes of a container."""

from __future__ import annotations

from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, Flag
from sampan.runtime.container import Container

FLAGS: tuple[Flag, ...] = ()
USAGE = "CONTAINER"
OPERANDS = (1, 1)


def run(context: Context, given: Arguments) -> int:
    """Pause the container."""
    Container.load(context.root, given.operands[0]).pause()
    return 0
