"""Show everything about one or more images."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.arguments.platform_flag import check
from sampan.cli.display.inspection import inspect
from sampan.cli.display.table import INSPECT_FORMAT_HELP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "IMAGE [IMAGE...]"
OPERANDS = (1, None)


class Options:
    format: str = flag("f", INSPECT_FORMAT_HELP, default="")
    platform: str = flag("", "Show this platform (os[/arch[/variant]])", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    check([options.platform], "")
    return inspect(
        cli,
        operands,
        options.format,
        lambda name: cli.client.images.inspect(name, options.platform),
    )
