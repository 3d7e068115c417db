"""Show everything about one or more volumes."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.inspection import inspect
from sampan.cli.display.table import INSPECT_FORMAT_HELP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "VOLUME [VOLUME...]"
OPERANDS = (1, None)


class Options:
    format: str = flag("f", INSPECT_FORMAT_HELP, default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    return inspect(cli, operands, options.format, cli.client.volumes.inspect)
