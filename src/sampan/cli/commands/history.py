"""Show the layers of an image and how they were made."""

from __future__ import annotations

import time

from sampan.cli.arguments.flags import flag
from sampan.cli.arguments.platform_flag import check
from sampan.cli.containers.columns import short_id
from sampan.cli.display.table import FORMAT_HELP, render
from sampan.cli.display.tabwriter import ellipsis
from sampan.cli.display.units import human_duration, human_size, local_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "IMAGE"
ALIASES = "image history, history"
OPERANDS = (1, 1)
HUMAN = r"table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
PLAIN = r"table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
COMMAND_COLUMNS = 45
HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


class Options:
    format: str = flag("", FORMAT_HELP, default="")
    human: bool = flag("H", "Print sizes and dates in words", default=True)
    no_trunc: bool = flag("", "Show everything at full length")
    platform: str = flag("", "Show this platform (os[/arch[/variant]])", default="")
    quiet: bool = flag("q", "Show ids only")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    check([options.platform])
    layers = cli.client.images.history(operands[0], options.platform)
    layout = options.format or "table"
    if layout == "table":
        layout = "{{.ID}}" if options.quiet else HUMAN if options.human else PLAIN
    cli.out.write(render(layout, layers, _columns(options.human, not options.no_trunc), HEADINGS))
    return 0


def _columns(human: bool, truncated: bool) -> dict[str, Callable[[dict[str, Any]], Any]]:
    return {
        "ID": lambda item: short_id(item["Id"]) if truncated else item["Id"],
        "CreatedAt": lambda item: _date(item["Created"]),
        "CreatedSince": lambda item: _age(item["Created"]) if human else _date(item["Created"]),
        "CreatedBy": lambda item: _command(item["CreatedBy"], truncated),
        "Size": lambda item: human_size(item["Size"], 3) if human else str(item["Size"]),
        "Comment": lambda item: item["Comment"],
    }


def _date(created: float) -> str:
    stamp = local_time(created)[:25].replace(" ", "T", 1).replace(" ", "")
    return f"{stamp[:-2]}:{stamp[-2:]}" if not stamp.endswith("+0000") else f"{stamp[:-5]}Z"


def _age(created: float) -> str:
    return human_duration(time.time() - created) + " ago" if created > 0 else "N/A"


def _command(text: str, truncated: bool) -> str:
    text = text.replace("\t", " ")
    return ellipsis(text, COMMAND_COLUMNS) if truncated else text
