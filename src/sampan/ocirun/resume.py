"""`resume`: let the processes of a paused container run again."""

from __future__ import annotations

from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, Flag
from sampan.runtime.container import Container

FLAGS: tuple[Flag, ...] = ()
USAGE = "CONTAINER"
OPERANDS = (1, 1)


def run(context: Context, given: Arguments) -> int:
    """Resume the container."""
    Container.load(context.root, given.operands[0]).resume()
    return 0
