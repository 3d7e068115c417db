"""Show the processes of a container."""

from __future__ import annotations

from sampan.cli.display.tabwriter import aligned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [ps OPTIONS]"
ALIASES = "container top, top"
OPERANDS = (1, None)
INTERSPERSED = False


class Options:
    """No flags: what follows the container is for ps."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    container, *arguments = operands
    answer = cli.client.containers.top(container, arguments)
    rows = [answer["Titles"], *answer["Processes"]]
    cli.out.write(aligned("".join("\t".join(row) + "\n" for row in rows), minimum=20))
    return 0
