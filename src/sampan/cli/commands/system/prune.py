"""Remove everything that is unused."""

from __future__ import annotations

from sampan.cli import pruning
from sampan.cli.arguments.flags import flag
from sampan.cli.display.natural import natural_order
from sampan.cli.invocation import Exit
from sampan.cli.prompt import confirm, with_default_filters
from sampan.errors import NotFound, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.invocation import Invocation

USAGE = ""
OPERANDS = (0, 0)


class Options:
    all: bool = flag("a", "Every unused image, not only those without a name")
    filter: dict[str, list[str]] = flag(
        "", 'Only what meets a condition (e.g. "label=<key>=<value>")', kind="filter"
    )
    force: bool = flag("f", "Do not ask")
    volumes: bool = flag("", "Anonymous volumes too")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if options.volumes and "until" in options.filter:
        raise Exit(1, 'ERROR: The "until" filter is not supported with "--volumes"')
    if not options.force:
        confirm(cli, _warning(cli, options))
    given = options.filter
    steps: list[Callable[[], int]] = [
        lambda: pruning.prune_containers(cli, given),
        lambda: pruning.prune_networks(cli, given),
        *([lambda: pruning.prune_volumes(cli, given)] if options.volumes else []),
        lambda: pruning.prune_images(cli, given, options.all),
        lambda: pruning.prune_build_cache(cli, given, options.all),
    ]
    reclaimed = 0
    for step in steps:
        try:
            reclaimed += step()
        except (Unsupported, NotFound):
            continue  # a daemon without a builder has no build cache
    pruning.total(cli, reclaimed)
    return 0


def _warning(cli: Invocation, options: Options) -> str:
    things = ["all stopped containers", "all networks not used by at least one container"]
    if options.volumes:
        things.append("all anonymous volumes not used by at least one container")
    if options.all:
        things += ["all images without at least one container associated to them"]
    else:
        things.append("all dangling images")
    things.append("all build cache" if options.all else "unused build cache")
    text = "WARNING! This will remove:\n" + "".join(f"  - {thing}\n" for thing in things)
    filters = [
        f"{name}={value}"
        for name, values in with_default_filters(cli, options.filter).items()
        for value in values
    ]
    if filters:
        text += "\n  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {item}\n" for item in sorted(filters, key=natural_order))
    return text + "\nAre you sure you want to continue?"
