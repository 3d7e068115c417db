"""`create`: a container whose program waits for `start`."""

from __future__ import annotations

from sampan.ocirun import creation
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments

FLAGS = creation.FLAGS
USAGE = "CONTAINER"
OPERANDS = (1, 1)


def run(context: Context, given: Arguments) -> int:
    """Create the container; it belongs to whoever is the subreaper above us."""
    creation.create(context, given, detached=True)
    return 0
