"""`run`: create, start, wait, delete."""

from __future__ import annotations

from sampan.linux import process
from sampan.ocirun import creation
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.ocirun.foreground import Foreground
from sampan.runtime.container import Container

FLAGS = (
    *creation.FLAGS,
    flag("--detach -d", "do not wait for the container's end"),
    flag("--keep", "do not delete the container after its end"),
)
USAGE = "CONTAINER"
OPERANDS = (1, 1)


def run(context: Context, given: Arguments) -> int:
    """Run the container; return the exit status of its program, or 0 if detached."""
    detached = given.has("detach")
    if not detached and not given.has("no-subreaper"):
        process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    created = creation.create(context, given, detached=detached)
    container = Container.load(context.root, given.operands[0])
    try:
        if detached:
            container.start()
            return 0
        with Foreground(created.launched) as foreground:
            container.start()
            status = foreground.wait()
    except BaseException:
        container.delete(force=True)
        raise
    if not given.has("keep"):
        container.delete(force=True)
    return status
