"""Remove local volumes that no container has."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.invocation import Exit
from sampan.cli.prompt import confirm
from sampan.cli.pruning import prune_volumes, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
OPERANDS = (0, 0)
ANONYMOUS = """WARNING! This will remove anonymous local volumes not used by at least one container.
Are you sure you want to continue?"""
ALL = """WARNING! This will remove all local volumes not used by at least one container.
Are you sure you want to continue?"""


class Options:
    all: bool = flag("a", "Those with a name, too")
    filter: dict[str, list[str]] = flag(
        "", 'Only what meets a condition (e.g. "label=<label>")', kind="filter"
    )
    force: bool = flag("f", "Do not ask")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    filters = {name: [*values] for name, values in options.filter.items()}
    if options.all:
        if "all" in filters:
            raise Exit(1, "conflicting options: cannot specify both --all and --filter all=1")
        filters["all"] = ["true"]
    if not options.force:
        confirm(cli, ALL if options.all else ANONYMOUS)
    total(cli, prune_volumes(cli, filters))
    return 0
