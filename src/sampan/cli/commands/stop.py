"""Stop one or more running containers."""

from __future__ import annotations

from sampan.cli.containers.stopping import StopOptions
from sampan.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container stop, stop"
OPERANDS = (1, None)


class Options(StopOptions):
    """What both have."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    seconds = options.seconds
    return each(
        cli,
        operands,
        lambda client, name: client.containers.stop(name, options.signal, seconds),
    )
