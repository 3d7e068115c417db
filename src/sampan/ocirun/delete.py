"""`delete`: remove a container that has stopped, or with --force any."""

from __future__ import annotations

from sampan.errors import NotFound
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.ocirun.selection import selected
from sampan.runtime.container import Container

FLAGS = (
    flag("--force -f", "kill the container first if it runs"),
    flag("--regex -r", "CONTAINER is a regular expression"),
)
USAGE = "CONTAINER"
OPERANDS = (1, 1)


def run(context: Context, given: Arguments) -> int:
    """Delete; with --force it is no error that the container does not exist."""
    force = given.has("force")
    for each in selected(context.root, given.operands[0], is_pattern=given.has("regex")):
        try:
            Container.load(context.root, each).delete(force=force)
        except NotFound:
            if not force:
                raise
    return 0
