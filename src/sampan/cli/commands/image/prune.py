"""Remove unused images."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.prompt import confirm
from sampan.cli.pruning import prune_images, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
OPERANDS = (0, 0)
ALL = """WARNING! This will remove all images without at least one container associated to them.
Are you sure you want to continue?"""
DANGLING = """WARNING! This will remove all dangling images.
Are you sure you want to continue?"""


class Options:
    all: bool = flag("a", "Every unused image, not only those without a name")
    filter: dict[str, list[str]] = flag(
        "", 'Only what meets a condition (e.g. "until=<timestamp>")', kind="filter"
    )
    force: bool = flag("f", "Do not ask")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if not options.force:
        confirm(cli, ALL if options.all else DANGLING)
    total(cli, prune_images(cli, options.filter, options.all))
    return 0
