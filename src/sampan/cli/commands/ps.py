"""List containers."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.containers.columns import HEADINGS, METHODS, columns
from sampan.cli.display.table import FORMAT_HELP, check_columns, render, uses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
ALIASES = "container ls, container list, container ps, ps"
OPERANDS = (0, 0)
TABLE = (
    r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
)
RAW = """container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
"""


class Options:
    changed: set[str]
    all: bool = flag("a", "Show all containers (default shows just running)")
    filter: dict[str, list[str]] = flag("f", "Show only what meets a condition", kind="filter")
    format: str = flag("", FORMAT_HELP, default="")
    last: int = flag("n", "Show the n newest containers, in any state", kind="int", default=-1)
    latest: bool = flag("l", "Show the newest container, in any state")
    no_trunc: bool = flag("", "Show everything at full length")
    quiet: bool = flag("q", "Show ids only")
    size: bool = flag("s", "Show sizes")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if options.format and options.quiet:
        cli.err.line("WARNING: Ignoring custom format, because both --format and --quiet are set.")
    layout = options.format or cli.setting("psFormat")
    size = options.size
    if layout and layout != "table":
        check_columns(layout, HEADINGS)
        size = size or (
            "size" not in options.changed and not options.quiet and uses(layout, "Size")
        )
    limit = 1 if options.latest and options.last == -1 else options.last
    found = cli.client.containers.list(
        options.all, limit if limit > 0 else None, size, options.filter
    )
    cli.out.write(
        render(
            _format(layout, options.quiet, size),
            found,
            columns(not options.no_trunc),
            HEADINGS,
            METHODS,
        )
    )
    return 0


def _format(layout: str, quiet: bool, size: bool) -> str:
    if layout == "raw":
        return "container_id: {{.ID}}" if quiet else RAW + ("size: {{.Size}}\n" if size else "")
    if quiet:
        return "{{.ID}}"
    if layout in ("", "table"):
        return TABLE + (r"\t{{.Size}}" if size else "")
    return layout
