"""Remove build cache."""

from __future__ import annotations

from sampan.cli.flags import flag
from sampan.cli.prompt import confirm
from sampan.cli.pruning import prune_build_cache, total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
OPERANDS = (0, 0)
ALL = """WARNING! This will remove all build cache. Are you sure you want to continue?"""
DANGLING = (
    """WARNING! This will remove all dangling build cache. Are you sure you want to continue?"""
)


class Options:
    all: bool = flag("a", "All unused cache, not only what is dangling")
    filter: dict[str, list[str]] = flag(
        "", 'Only what meets a condition (e.g. "until=24h")', kind="filter"
    )
    force: bool = flag("f", "Do not ask")
    keep_storage: int = flag("", "Bytes of cache that stay", kind="bytes")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if not options.force:
        confirm(cli, ALL if options.all else DANGLING)
    total(cli, prune_build_cache(cli, options.filter, options.all, options.keep_storage))
    return 0
