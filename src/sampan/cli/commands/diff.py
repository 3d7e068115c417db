"""List the files that a container has changed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER"
ALIASES = "container diff, diff"
OPERANDS = (1, 1)
KINDS = "CAD"  # changed, added, deleted: the API's numbers


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    for change in cli.client.containers.changes(operands[0]):
        cli.out.line(KINDS[change["Kind"]], change["Path"])
    return 0
