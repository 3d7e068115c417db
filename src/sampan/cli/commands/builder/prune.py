"""Remove build cache."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag, hidden
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
    keep_storage: int = hidden("", kind="bytes")
    max_used_space: int = flag("", "Most bytes of cache that stay", kind="bytes")
    min_free_space: int = flag("", "Bytes of the disk that are to be free", kind="bytes")
    reserved_space: int = flag("", "Bytes of cache that stay in any case", kind="bytes")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if not options.force:
        confirm(cli, ALL if options.all else DANGLING)
    keep = options.reserved_space or options.keep_storage
    sizes = keep, options.max_used_space, options.min_free_space
    total(cli, prune_build_cache(cli, options.filter, options.all, *sizes))
    return 0
