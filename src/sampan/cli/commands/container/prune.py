"""Remove all stopped containers."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.prompt import confirm
from sampan.cli.pruning import prune_containers, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
OPERANDS = (0, 0)
WARNING = """WARNING! This will remove all stopped containers.
Are you sure you want to continue?"""


class Options:
    filter: dict[str, list[str]] = flag(
        "", 'Only what meets a condition (e.g. "until=<timestamp>")', kind="filter"
    )
    force: bool = flag("f", "Do not ask")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if not options.force:
        confirm(cli, WARNING)
    total(cli, prune_containers(cli, options.filter))
    return 0
