"""Write a container's file system as a tar archive."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.saving import save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER"
ALIASES = "container export, export"
OPERANDS = (1, 1)


class Options:
    output: str = flag("o", "Write to a file instead of STDOUT", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    return save(
        cli,
        options.output,
        "failed to export container",
        lambda: cli.client.containers.export(operands[0]),
    )
